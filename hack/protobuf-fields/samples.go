package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand"
	"reflect"
	"sort"
	"strings"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// How likely it is that a field is set, and how deep fields are.
const (
	likelihood = 0.3
	maxDepth   = 12
)

// printSamples prints an empty object and a filled one of each kind: what Go writes of it in protobuf, in base64, and
// the JSON of what Go reads from that.
func printSamples(scheme *runtime.Scheme, w io.Writer) {
	out := bufio.NewWriter(w)
	defer out.Flush()
	var kinds []schema.GroupVersionKind
	for gvk, goType := range scheme.AllKnownTypes() {
		shared := goType.PkgPath() == reflect.TypeFor[meta.Time]().PkgPath()
		if gvk.Version == runtime.APIVersionInternal || !isMessage(goType) || strings.HasSuffix(gvk.Kind, "List") ||
			(shared && gvk.Group != "") || gvk.Kind == "WatchEvent" {
			continue
		}
		kinds = append(kinds, gvk)
	}
	sort.Slice(kinds, func(i, j int) bool { return kinds[i].String() < kinds[j].String() })
	serializer := protobuf.NewSerializer(scheme, scheme)
	filler := filler{random: rand.New(rand.NewSource(1))}
	for _, gvk := range kinds {
		for _, full := range []bool{false, true} {
			object, err := scheme.New(gvk)
			if err != nil {
				log.Fatal(err)
			}
			if full {
				filler.fill(reflect.ValueOf(object).Elem(), 0)
			}
			object.GetObjectKind().SetGroupVersionKind(gvk)
			bytes, err := runtime.Encode(serializer, object)
			if err != nil {
				log.Fatalf("%s: %s", gvk, err)
			}
			read, _, err := serializer.Decode(bytes, nil, nil)
			if err != nil {
				log.Fatalf("%s: %s", gvk, err)
			}
			read.GetObjectKind().SetGroupVersionKind(gvk)
			text, err := json.Marshal(read)
			if err != nil {
				log.Fatalf("%s: %s", gvk, err)
			}
			fmt.Fprintf(out, "%s\t%s\n", base64.StdEncoding.EncodeToString(bytes), text)
		}
	}
}

// filler sets values, the same ones at each run.
type filler struct{ random *rand.Rand }

func (f filler) yes() bool { return f.random.Float64() < likelihood }

func pick[T any](f filler, choices ...T) T { return choices[f.random.Intn(len(choices))] }

func (f filler) fill(v reflect.Value, depth int) {
	if f.special(v, depth) || depth > maxDepth {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Type != reflect.TypeFor[meta.TypeMeta]() {
				f.fill(v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		if f.yes() {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), depth+1)
		}
	case reflect.Slice:
		if !f.yes() {
			return
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte{0, 255, 'a'})
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), pick(f, 1, 2), 2))
		for i := range v.Len() {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Map:
		if !f.yes() {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{"", "key"} {
			value := reflect.New(v.Type().Elem()).Elem()
			if value.Kind() == reflect.Slice {
				// An empty list, not none: there is no none in a map.
				value.Set(reflect.MakeSlice(value.Type(), 0, 0))
			}
			f.fill(value, depth+1)
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), value)
		}
	case reflect.String:
		v.SetString(pick(f, "", "a", "é\n"))
	case reflect.Bool:
		v.SetBool(f.yes())
	case reflect.Int32:
		v.SetInt(pick[int64](f, 0, 1, -1, 1<<31-1))
	case reflect.Int64:
		v.SetInt(pick[int64](f, 0, 300, -1<<40))
	case reflect.Float64:
		v.SetFloat(pick(f, 0, 1, -2.5))
	default:
		log.Fatalf("%s cannot be filled", v.Type())
	}
}

// special sets values of types that do not take any value.
func (f filler) special(v reflect.Value, depth int) bool {
	schema := func() *apiextensions.JSONSchemaProps {
		props := apiextensions.JSONSchemaProps{}
		f.fill(reflect.ValueOf(&props).Elem(), depth+2)
		return &props
	}
	switch x := v.Addr().Interface().(type) {
	case *meta.Time:
		// A zero time behind a pointer would be null in JSON, and so no time at all.
		x.Time = time.Unix(pick[int64](f, 0, 1700000000, -1), 0)
	case *meta.MicroTime:
		x.Time = time.Unix(pick[int64](f, 0, 1700000000, -1), pick[int64](f, 0, 123456000))
	case *resource.Quantity:
		*x = resource.MustParse(pick(f, "0", "100m", "3Gi", "-5"))
	case *intstr.IntOrString:
		*x = pick(f, intstr.FromInt32(80), intstr.FromInt32(-1), intstr.FromString("http"), intstr.FromString(""))
	case *meta.FieldsV1:
		x.Raw = []byte(`{"f:a":{}}`)
	case *runtime.RawExtension:
		x.Raw = []byte(`{"a":[1,2.5,"x"]}`)
	case *apiextensions.JSON:
		x.Raw = []byte(pick(f, `{"a":1}`, `"s"`, `1`, `false`))
	case *apiextensions.JSONSchemaPropsOrArray:
		if f.yes() {
			x.JSONSchemas = []apiextensions.JSONSchemaProps{{Type: "string"}, *schema()}
		} else {
			x.Schema = schema()
		}
	case *apiextensions.JSONSchemaPropsOrBool:
		if x.Allows = f.yes(); x.Allows && f.yes() {
			x.Schema = schema()
		}
	case *apiextensions.JSONSchemaPropsOrStringArray:
		if f.yes() {
			x.Schema = schema()
		} else {
			x.Property = []string{"a", ""}
		}
	default:
		return false
	}
	return true
}
