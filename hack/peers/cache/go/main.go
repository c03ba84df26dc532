// The Go caches of hack/bench-cache: `cache-bench PEER PODS HANDLERS` prints a JSON line when every handler has the initial
// list, and one for each number on stdin, when every handler has been told of that many changes in all.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	protobuf = "application/vnd.kubernetes.protobuf"
	plain    = "application/json"
	// How long the process rests before its memory is read; as in the Rust program.
	pause = 3 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 3 {
		return errors.New("usage: cache-bench PEER PODS HANDLERS")
	}
	peer := arguments[0]
	pods, err := strconv.Atoi(arguments[1])
	if err != nil {
		return err
	}
	handlers, err := strconv.Atoi(arguments[2])
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	log.SetLogger(logr.Discard())
	ctx := context.Background()
	follower, err := newFollower(ctx, peer, config)
	if err != nil {
		return err
	}
	told := make([]atomic.Int64, handlers)
	var synced []toolscache.InformerSynced
	for n := range told {
		handler, err := follower.informer.AddEventHandler(counting(&told[n]))
		if err != nil {
			return err
		}
		synced = append(synced, handler.HasSynced)
	}
	follower.start()
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.New("the cache ended before it was synced")
	}
	if stored := follower.stored(); stored != pods {
		return fmt.Errorf("%d objects are stored instead of %d", stored, pods)
	}
	if err := report(peer, told); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		wanted, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			return err
		}
		for least(told) < wanted {
			time.Sleep(10 * time.Millisecond)
		}
		if err := report(peer, told); err != nil {
			return err
		}
	}
	return lines.Err()
}

// A cache of all Pods.
type follower struct {
	informer interface {
		AddEventHandler(toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error)
	}
	stored func() int
	start  func()
}

func newFollower(ctx context.Context, peer string, config *rest.Config) (*follower, error) {
	answers := plain
	if peer == "client-go-protobuf" || peer == "client-go-metadata" || peer == "controller-runtime" {
		answers = protobuf
	}
	// Clients copy the configuration: all of it has to be said before they are made.
	config.Wrap(func(inner http.RoundTripper) http.RoundTripper { return answeredIn{answers, inner} })
	pods := corev1.SchemeGroupVersion.WithResource("pods")
	shared := func(informer toolscache.SharedIndexInformer) *follower {
		return &follower{
			informer: informer,
			stored:   func() int { return len(informer.GetStore().ListKeys()) },
			start:    func() { go informer.Run(ctx.Done()) },
		}
	}
	switch peer {
	case "client-go-protobuf", "client-go-json":
		config.ContentType, config.AcceptContentTypes = answers, answers
		clients, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		return shared(informers.NewSharedInformerFactory(clients, 0).Core().V1().Pods().Informer()), nil
	case "client-go-dynamic":
		clients, err := dynamic.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		return shared(dynamicinformer.NewDynamicSharedInformerFactory(clients, 0).ForResource(pods).Informer()), nil
	case "client-go-metadata":
		clients, err := metadata.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		return shared(metadatainformer.NewSharedInformerFactory(clients, 0).ForResource(pods).Informer()), nil
	case "controller-runtime":
		all, err := cache.New(config, cache.Options{})
		if err != nil {
			return nil, err
		}
		informer, err := all.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, err
		}
		return &follower{
			informer: informer,
			stored: func() int {
				var list corev1.PodList
				// Without copies of what is only counted.
				if err := all.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
				return len(list.Items)
			},
			start: func() {
				go func() {
					if err := all.Start(ctx); err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(1)
					}
				}()
			},
		}, nil
	default:
		return nil, fmt.Errorf("no peer %s", peer)
	}
}

// Refuses answers in another form than the one that the peer is there to measure.
type answeredIn struct {
	form  string
	inner http.RoundTripper
}

func (a answeredIn) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := a.inner.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK || !strings.HasSuffix(request.URL.Path, "/pods") {
		return response, err
	}
	if form := response.Header.Get("Content-Type"); !strings.HasPrefix(form, a.form) {
		fmt.Fprintf(os.Stderr, "%s is answered in %s instead of %s\n", request.URL, form, a.form)
		os.Exit(1)
	}
	return response, nil
}

// Counts what comes after the initial list.
func counting(told *atomic.Int64) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(_ any, initial bool) {
			if !initial {
				told.Add(1)
			}
		},
		UpdateFunc: func(_, _ any) { told.Add(1) },
		DeleteFunc: func(any) { told.Add(1) },
	}
}

func least(told []atomic.Int64) int64 {
	least := int64(math.MaxInt64)
	for n := range told {
		least = min(least, told[n].Load())
	}
	return least
}

// Prints CPU and memory of this process so far. What the collector does for this is not part of the next report.
func report(peer string, told []atomic.Int64) error {
	cpu, err := cpuSeconds()
	if err != nil {
		return err
	}
	// Steady is what a cache needs, not what waits for the collector or has not been given back yet.
	debug.FreeOSMemory()
	time.Sleep(pause)
	rested, err := cpuSeconds()
	if err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	mib := func(field string) float64 {
		for line := range strings.Lines(string(status)) {
			if words := strings.Fields(line); len(words) > 1 && words[0] == field {
				kib, _ := strconv.ParseFloat(words[1], 64)
				return math.Round(kib / 1024)
			}
		}
		return 0
	}
	line, err := json.Marshal(map[string]any{
		"peer": peer, "events": least(told), "cpu_s": cpu, "rested_cpu_s": rested,
		"peak_rss_mib": mib("VmHWM:"), "steady_rss_mib": mib("VmRSS:"),
	})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return nil
}

func cpuSeconds() (float64, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may have spaces.
	words := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0.0
	for _, word := range words[11:13] {
		number, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return 0, err
		}
		ticks += number
	}
	return ticks / 100, nil
}
