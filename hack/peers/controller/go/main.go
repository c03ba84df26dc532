// The Go controllers of hack/bench-controller: `controller-bench PEER SCENARIO …` prints JSON lines.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	usage = "controller-bench PEER overhead KEYS ROUNDS, controller-bench PEER start KEYS WORKERS, " +
		"controller-bench PEER children SITES WORKERS, controller-bench PEER failover LEASE; " +
		"PEER is controller-runtime or controller-runtime-tuned"
	// The longest wait for any one thing.
	patience = 600 * time.Second
	// How long the process rests before its memory is read, and before what is measured begins; as in the Rust program.
	pause = 3 * time.Second
	// How often it is looked whether something has happened.
	look       = 10 * time.Millisecond
	namespaces = 100
)

var begun = time.Now()

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	ctrl.SetLogger(logr.Discard())
	if len(arguments) < 3 || !strings.HasPrefix(arguments[0], "controller-runtime") {
		return errors.New(usage)
	}
	tuned := arguments[0] == "controller-runtime-tuned"
	if arguments[1] == "failover" && len(arguments) == 3 {
		return failover(arguments[2], tuned)
	}
	if len(arguments) != 4 {
		return errors.New(usage)
	}
	count, err := strconv.Atoi(arguments[2])
	if err != nil {
		return err
	}
	rest, err := strconv.Atoi(arguments[3])
	if err != nil {
		return err
	}
	switch arguments[1] {
	case "overhead":
		return overhead(count, rest)
	case "start":
		return start(count, rest)
	case "children":
		return children(count, rest)
	default:
		return errors.New(usage)
	}
}

// A manager that serves nothing.
func newManager(options ctrl.Options) (ctrl.Manager, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	options.Scheme = k8sruntime.NewScheme()
	if err := clientgoscheme.AddToScheme(options.Scheme); err != nil {
		return nil, err
	}
	if err := addSites(options.Scheme); err != nil {
		return nil, err
	}
	options.Metrics = server.Options{BindAddress: "0"}
	return ctrl.NewManager(config, options)
}

// Runs the manager for as long as something is measured.
func beside(manager ctrl.Manager, measure func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience*2)
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- errors.Join(manager.Start(ctx), errors.New("the manager ended")) }()
	go func() { ended <- measure(ctx) }()
	return <-ended
}

// Waits for something, not for ever.
func within(what string, reached func() bool) error {
	deadline := time.Now().Add(patience)
	for !reached() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s took more than %s", what, patience)
		}
		time.Sleep(look)
	}
	return nil
}

// The name of a ConfigMap and its namespace; the Rust program makes them.
func key(number int) (string, string) {
	return fmt.Sprintf("bench-%03d", number%namespaces), fmt.Sprintf("key-%06d", number)
}

// The number in a name, or -1.
func numberOf(name string) int {
	number, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
	if err != nil {
		return -1
	}
	return number
}

func newKey(number int) *corev1.ConfigMap {
	object := &corev1.ConfigMap{}
	object.Namespace, object.Name = key(number)
	return object
}

func tell(figures map[string]any) error {
	line, err := json.Marshal(figures)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}

// CPU that this process has used, in user and system mode.
func cpu() (time.Duration, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, err
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), nil
}

// How often memory was asked for, and how many bytes.
func asked() (uint64, uint64) {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs, stats.TotalAlloc
}

// MiB of a line of the process's status, as `VmRSS:`.
func mib(field string) (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == field {
			kib, err := strconv.ParseFloat(words[1], 64)
			return math.Round(kib / 1024), err
		}
	}
	return 0, fmt.Errorf("no %s in the status", field)
}
