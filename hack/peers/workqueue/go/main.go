// The workloads of hack/bench-workqueue on the Go queues: `workqueue-bench PEER WORKLOAD` prints one JSON line.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
)

const (
	keys       = 1_000_000
	adds       = 5_000_000
	mergedKeys = 1_000
	producers  = 4
	delayed    = 200_000
	seed       = 42
	listed     = 20_000
	workers    = 10
	changeAt   = 100 * time.Millisecond
	// The priority of the initial list, as controller-runtime's handlers give it.
	listedPriority = -100
)

type figures map[string]any

// A queue without a name keeps no metrics and asks no clock: the fastest it can be. One with a name keeps those that
// controller-runtime registers, as in every controller that is watched over; ours always keeps its own.
func newQueue[T comparable](peer string) workqueue.TypedRateLimitingInterface[T] {
	framework, measured := strings.CutSuffix(peer, metered)
	name := ""
	if measured {
		name = "bench"
	}
	if framework == "controller-runtime" {
		return priorityqueue.New[T](name)
	}
	limiter := workqueue.DefaultTypedItemBasedRateLimiter[T]()
	return workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[T]{Name: name})
}

const metered = "+metrics"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: workqueue-bench client-go[+metrics]|controller-runtime[+metrics] WORKLOAD")
		os.Exit(2)
	}
	peer, workload := os.Args[1], os.Args[2]
	framework := strings.TrimSuffix(peer, metered)
	known := framework == "client-go" || framework == "controller-runtime"
	var result figures
	switch {
	case !known:
	case workload == "distinct":
		result = distinct(peer, func(n int) int { return n })
	case workload == "distinct-string":
		result = distinct(peer, func(n int) string { return fmt.Sprintf("namespace-%03d/name-%07d", n%1000, n) })
	case workload == "merged":
		result = merged(peer)
	case workload == "delayed":
		result = delays(peer)
	case workload == "backoff" && peer == "client-go":
		result = backoff()
	case workload == "memory-backoff" && peer == "client-go":
		result = memoryBackoff()
	case workload == "memory":
		result = memory(peer, false)
	case workload == "memory-delayed":
		result = memory(peer, true)
	case workload == "startup":
		result = startup(peer)
	}
	if result == nil {
		fmt.Fprintf(os.Stderr, "%s has no workload %s in this program\n", peer, workload)
		os.Exit(3)
	}
	result["peer"], result["workload"] = peer, workload
	line, err := json.Marshal(result)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(line))
}

func distinct[T comparable](peer string, key func(int) T) figures {
	queue := newQueue[T](peer)
	all := make([]T, keys)
	for n := range all {
		all[n] = key(n)
	}
	finished := make(chan time.Time)
	go func() {
		for range keys {
			key, _ := queue.Get()
			queue.Done(key)
		}
		finished <- time.Now()
	}()
	start := time.Now()
	go func() {
		for _, key := range all {
			queue.Add(key)
		}
	}()
	wall := (<-finished).Sub(start)
	return figures{"ops_per_s": keys / wall.Seconds()}
}

func merged(peer string) figures {
	queue := newQueue[int](peer)
	var closing atomic.Bool
	var processed, left atomic.Int64
	var seen [mergedKeys]atomic.Bool
	left.Store(mergedKeys)
	finished := make(chan time.Time, 1)
	for range 2 {
		go func() {
			for {
				key, _ := queue.Get()
				processed.Add(1)
				if closing.Load() && !seen[key].Swap(true) && left.Add(-1) == 0 {
					finished <- time.Now()
				}
				queue.Done(key)
			}
		}()
	}
	start := time.Now()
	var group sync.WaitGroup
	for range producers {
		group.Go(func() {
			for n := range adds / producers {
				queue.Add(n % mergedKeys)
			}
		})
	}
	group.Wait()
	// Once more for each key: when all of them have had a turn after this, nothing of the rest is left.
	closing.Store(true)
	for key := range mergedKeys {
		queue.Add(key)
	}
	wall := (<-finished).Sub(start)
	return figures{"adds_per_s": (adds + mergedKeys) / wall.Seconds(), "processed": processed.Load()}
}

// Delays of the delayed workload: splitmix64, as in the Rust program.
func delaysOf() []time.Duration {
	state := uint64(seed)
	all := make([]time.Duration, delayed)
	for n := range all {
		state += 0x9E3779B97F4A7C15
		z := state
		z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
		z = (z ^ (z >> 27)) * 0x94D049BB133111EB
		all[n] = time.Duration((z ^ (z >> 31)) % 1_000_000_000)
	}
	return all
}

func delays(peer string) figures {
	queue := newQueue[int](peer)
	all := delaysOf()
	due := make([]time.Duration, delayed)
	taken := make([]time.Duration, delayed)
	origin := time.Now()
	before := cpuSeconds()
	finished := make(chan struct{})
	go func() {
		for range delayed {
			key, _ := queue.Get()
			taken[key] = time.Since(origin)
			queue.Done(key)
		}
		close(finished)
	}()
	for key, delay := range all {
		due[key] = time.Since(origin) + delay
		queue.AddAfter(key, delay)
	}
	<-finished
	cpu := cpuSeconds() - before
	late := make([]float64, delayed)
	early := 0
	for key := range late {
		late[key] = float64(taken[key]-due[key]) / 1e6
		if late[key] < 0 {
			early++
		}
	}
	sort.Float64s(late)
	at := func(percent int) float64 { return late[(delayed-1)*percent/100] }
	return figures{"p50_ms": at(50), "p99_ms": at(99), "early": early, "cpu_s": cpu}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func limiter() workqueue.TypedRateLimiter[int] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[int](5*time.Millisecond, 1000*time.Second)
}

func backoff() figures {
	limiter := limiter()
	start := time.Now()
	for key := range keys {
		limiter.When(key)
	}
	next := time.Since(start)
	start = time.Now()
	for key := range keys {
		limiter.Forget(key)
	}
	forget := time.Since(start)
	return figures{"next_per_s": keys / next.Seconds(), "forget_per_s": keys / forget.Seconds()}
}

func memoryBackoff() figures {
	before := heap()
	limiter := limiter()
	for key := range keys {
		limiter.When(key)
	}
	bytes := float64(heap()-before) / keys
	runtime.KeepAlive(limiter)
	return figures{"heap_bytes_per_key": bytes}
}

// Live heap bytes, beyond any that only wait for the collector.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func memory(peer string, later bool) figures {
	before := heap()
	queue := newQueue[int](peer)
	for key := range keys {
		if later {
			queue.AddAfter(key, time.Hour+time.Duration(key)*time.Microsecond)
		} else {
			queue.Add(key)
		}
	}
	// Both take in what was added in the background. The second look empties controller-runtime's buffer of adds.
	time.Sleep(500 * time.Millisecond)
	queue.Len()
	queue.Len()
	bytes := float64(heap()-before)/keys - 8
	runtime.KeepAlive(queue)
	return figures{"heap_bytes_per_key": bytes}
}

func startup(peer string) figures {
	queue := newQueue[int](peer)
	const changed = listed - 1
	var lock sync.Mutex
	var begun []time.Time
	turns := make(chan int, workers)
	start := time.Now()
	for key := range listed {
		if priority, ok := queue.(priorityqueue.PriorityQueue[int]); ok {
			low := listedPriority
			priority.AddWithOpts(priorityqueue.AddOpts{Priority: &low}, key)
		} else {
			queue.Add(key)
		}
	}
	for range workers {
		go func() {
			for {
				key, _ := queue.Get()
				if key == changed {
					lock.Lock()
					begun = append(begun, time.Now())
					lock.Unlock()
				}
				time.Sleep(time.Millisecond)
				queue.Done(key)
				turns <- key
			}
		}()
	}
	added := make(chan time.Time, 1)
	time.AfterFunc(changeAt-time.Since(start), func() {
		added <- time.Now()
		queue.Add(changed)
	})
	left := make(map[int]bool, listed)
	for key := range listed {
		left[key] = true
	}
	for len(left) > 0 {
		delete(left, <-turns)
	}
	list := time.Since(start)
	at := <-added
	lock.Lock()
	defer lock.Unlock()
	for _, turn := range begun {
		if !turn.Before(at) {
			return figures{"wait_ms": turn.Sub(at).Seconds() * 1e3, "list_done_ms": list.Seconds() * 1e3}
		}
	}
	panic("the changed key had no turn")
}
