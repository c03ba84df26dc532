// Programs with client-go, unchanged, against an API server that KUBECONFIG names. Each says what it checked, and ends with
// status 1 at the first difference. The argument says which.
package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// deadline is how long one program may take.
const deadline = 45 * time.Second

var programs = map[string]func(ctx context.Context, config *rest.Config){
	"typed":     typed,
	"informers": informers,
	"leader":    leader,
}

func main() {
	if len(os.Args) != 2 || programs[os.Args[1]] == nil {
		fail("usage: go typed|informers|leader")
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	must("the kubeconfig", err)
	config.QPS = -1 // the server, not the client, says how much is too much
	programs[os.Args[1]](ctx, config)
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func must(what string, err error) {
	if err != nil {
		fail("FAILED: %s: %v", what, err)
	}
}

func got[T any](value T, err error) T {
	if err != nil {
		fail("FAILED: %T: %v", value, err)
	}
	return value
}

func check[T any](what string, got, want T) {
	if !reflect.DeepEqual(got, want) {
		fail("DIFFERENT: %s\n  got:  %#v\n  want: %#v", what, got, want)
	}
	fmt.Println("ok:", what)
}

// refused checks an error's reason and a part of its message.
func refused(what string, err error, reason metav1.StatusReason, text string) {
	if err == nil {
		fail("DIFFERENT: %s: accepted, but %s was expected", what, reason)
	}
	if apierrors.ReasonForError(err) != reason || !strings.Contains(err.Error(), text) {
		fail("DIFFERENT: %s\n  got:  %s: %v\n  want: %s: … %s …", what, apierrors.ReasonForError(err), err, reason, text)
	}
	fmt.Println("ok:", what)
}

// next takes what comes next from a channel, or fails at the deadline.
func next[T any](ctx context.Context, what string, from <-chan T) T {
	select {
	case value, open := <-from:
		if !open {
			fail("FAILED: %s: the channel was closed", what)
		}
		return value
	case <-ctx.Done():
		fail("FAILED: %s: nothing came in %s", what, deadline)
		panic("unreachable")
	}
}

func namespace(ctx context.Context, client kubernetes.Interface, name string) {
	wanted := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := client.CoreV1().Namespaces().Create(ctx, wanted, metav1.CreateOptions{})
	must("the namespace "+name, err)
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"by": "go"}},
		Data:       map[string]string{"k": value},
	}
}
