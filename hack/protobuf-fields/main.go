// Command protobuf-fields prints how the built-in Kubernetes kinds are written in protobuf: the numbers, names and
// types of the fields of each message, as the struct tags of the Go types have them. With the word `samples` it prints
// objects as Go writes them, for tests. hack/update-protobuf runs it.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"path"
	"reflect"
	"sort"
	"strconv"
	"strings"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	flowcontrol "k8s.io/api/flowcontrol/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// Types whose JSON is not what their fields say; the codec knows them by these words.
var special = map[reflect.Type]string{
	reflect.TypeFor[meta.Time]():                                  "time",
	reflect.TypeFor[meta.MicroTime]():                             "microtime",
	reflect.TypeFor[meta.FieldsV1]():                              "raw",
	reflect.TypeFor[runtime.RawExtension]():                       "raw",
	reflect.TypeFor[apiextensions.JSON]():                         "raw",
	reflect.TypeFor[resource.Quantity]():                          "quantity",
	reflect.TypeFor[intstr.IntOrString]():                         "intorstring",
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrArray]():       "schemaorarray",
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrBool]():        "schemaorbool",
	reflect.TypeFor[apiextensions.JSONSchemaPropsOrStringArray](): "schemaorstrings",
}

var (
	bytesType = reflect.TypeFor[[]byte]()
	messages  = map[string]reflect.Type{}
	waiting   []reflect.Type
)

func main() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistration.AddToScheme, apiextensions.AddToScheme, apiregistration.AddToScheme, apps.AddToScheme,
		authentication.AddToScheme, authorization.AddToScheme, autoscalingv1.AddToScheme, autoscalingv2.AddToScheme,
		batch.AddToScheme, certificates.AddToScheme, coordination.AddToScheme, core.AddToScheme, discovery.AddToScheme,
		events.AddToScheme, flowcontrol.AddToScheme, networking.AddToScheme, node.AddToScheme, policy.AddToScheme,
		rbac.AddToScheme, scheduling.AddToScheme, storage.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			log.Fatal(err)
		}
	}
	if err := meta.AddMetaToScheme(scheme); err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 1 && os.Args[1] == "samples" {
		printSamples(scheme, os.Stdout)
		return
	}
	roots := map[string]string{}
	for gvk, goType := range scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal || !isMessage(goType) {
			continue
		}
		apiVersion := gvk.GroupVersion().String()
		// Options and the like are in every group.
		if goType.PkgPath() == reflect.TypeFor[meta.Time]().PkgPath() {
			apiVersion = "*"
		}
		roots[apiVersion+" "+gvk.Kind] = message(goType)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, "# Made by hack/update-protobuf; see mod.rs for how to read it.")
	for _, kind := range sorted(roots) {
		fmt.Fprintln(out, "kind", kind, roots[kind])
	}
	lines := map[string][]string{}
	for len(waiting) > 0 {
		goType := waiting[0]
		waiting = waiting[1:]
		lines[message(goType)] = fields(goType)
	}
	for _, name := range sorted(lines) {
		fmt.Fprintln(out, "message", name)
		for _, line := range lines[name] {
			fmt.Fprintln(out, line)
		}
	}
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

func isMessage(t reflect.Type) bool {
	_, ok := reflect.PointerTo(t).MethodByName("Marshal")
	return ok
}

// message names a type, and sees to it that it is printed.
func message(t reflect.Type) string {
	dir, version := path.Split(t.PkgPath())
	name := path.Base(dir) + "." + version + "." + t.Name()
	if known, ok := messages[name]; !ok {
		messages[name] = t
		waiting = append(waiting, t)
	} else if known != t {
		log.Fatalf("two types are called %s", name)
	}
	return name
}

// fields returns the lines of one message, in the order of their numbers.
func fields(t reflect.Type) []string {
	numbered := map[int]string{}
	if t.Kind() != reflect.Struct {
		log.Fatalf("%s is not a struct", t)
	}
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("protobuf")
		jsonName, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if tag == "" || tag == "-" {
			if field.Type == reflect.TypeFor[meta.TypeMeta]() || jsonName == "-" {
				continue
			}
			log.Fatalf("%s.%s has no protobuf tag", t, field.Name)
		}
		parts := strings.Split(tag, ",")
		number, err := strconv.Atoi(parts[1])
		if err != nil {
			log.Fatalf("%s.%s: %s", t, field.Name, tag)
		}
		fieldType, flags := field.Type, ""
		if fieldType.Kind() == reflect.Pointer {
			fieldType, flags = fieldType.Elem(), flags+"?"
		}
		has := func(option string) bool { return strings.Contains(","+options+",", ","+option+",") }
		switch {
		case jsonName == "" && has("inline"):
			jsonName, flags = strings.ToLower(field.Name[:1])+field.Name[1:], flags+"~"
		case jsonName == "" || jsonName == "-":
			log.Fatalf("%s.%s has no name in JSON", t, field.Name)
		}
		if has("omitzero") {
			flags += "0"
		} else if !has("omitempty") {
			flags += "+"
		}
		if word := named(fieldType); word != "" {
			flags += "=" + word
		}
		line := fmt.Sprintf("%d %s %s %s", number, jsonName, typeOf(fieldType), flags)
		numbered[number] = strings.TrimSpace(line)
	}
	numbers := make([]int, 0, len(numbered))
	for number := range numbered {
		numbers = append(numbers, number)
	}
	sort.Ints(numbers)
	lines := make([]string, 0, len(numbers))
	for _, number := range numbers {
		lines = append(lines, numbered[number])
	}
	return lines
}

// typeOf gives the word of a type. Tags are not asked: a few name the wrong wire type, and the types decide.
func typeOf(t reflect.Type) string {
	if word, ok := special[t]; ok {
		for field := range structFields(t) {
			if field.Type == reflect.TypeFor[*apiextensions.JSONSchemaProps]() {
				message(field.Type.Elem())
			}
		}
		return word
	}
	switch {
	case t.ConvertibleTo(bytesType) && t.Kind() == reflect.Slice:
		return "bytes"
	case t.Kind() == reflect.Slice && isMessage(t):
		// A named list is a message whose field 1 repeats.
		if t.Elem().Kind() != reflect.String {
			log.Fatalf("%s is a list of %s", t, t.Elem())
		}
		return "strings"
	case t.Kind() == reflect.Slice:
		return "[]" + typeOf(t.Elem())
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		return "{}" + typeOf(t.Elem())
	case t.Kind() == reflect.Struct && isMessage(t):
		return message(t)
	case t.Kind() == reflect.Struct:
		log.Fatalf("%s cannot be written", t)
	}
	word, ok := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "bool", reflect.Int32: "int32", reflect.Int64: "int64",
		reflect.Float64: "double",
	}[t.Kind()]
	if !ok {
		log.Fatalf("%s cannot be written", t)
	}
	return word
}

// named is how Go's errors call a type, if that tells more than the word for it: they know of `v1.Protocol`.
func named(t reflect.Type) string {
	of := t
	for of.Name() == "" && (of.Kind() == reflect.Slice || of.Kind() == reflect.Map || of.Kind() == reflect.Pointer) {
		if of.Kind() == reflect.Map && of.Key().PkgPath() != "" {
			return t.String()
		}
		of = of.Elem()
	}
	if of.PkgPath() == "" || of.Kind() == reflect.Struct {
		return ""
	}
	return t.String()
}

func structFields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := 0; t.Kind() == reflect.Struct && i < t.NumField(); i++ {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}
