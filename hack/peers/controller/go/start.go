package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
)

// As in the Rust program.
const (
	work    = time.Millisecond
	every   = 100 * time.Millisecond
	changes = 10
	changed = "bench/changed"
)

// What reconciles have seen.
type seen struct {
	client.Reader
	// Tells this run's changes from those of others.
	run         string
	reconciled  []atomic.Bool
	left        atomic.Int64
	lock        sync.Mutex
	first, last time.Time
	// When a reconcile began that saw the change of an object.
	changes map[int]time.Time
}

func (s *seen) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var object corev1.ConfigMap
	if err := s.Get(ctx, request.NamespacedName, &object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s.begins(&object)
	time.Sleep(work)
	return ctrl.Result{}, nil
}

func (s *seen) begins(object *corev1.ConfigMap) {
	now := time.Now()
	number := numberOf(object.Name)
	if number < 0 || number >= len(s.reconciled) {
		return
	}
	last := !s.reconciled[number].Swap(true) && s.left.Add(-1) == 0
	sees := object.Annotations[changed] == s.run
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.first.IsZero() {
		s.first = now
	}
	if last {
		s.last = now
	}
	if _, before := s.changes[number]; sees && !before {
		s.changes[number] = now
	}
}

// How long a user's changes wait behind the initial list, and whether all of that gets through.
func start(keys, workers int) error {
	manager, err := newManager(ctrl.Options{})
	if err != nil {
		return err
	}
	seen := &seen{
		Reader: manager.GetClient(), run: fmt.Sprint(time.Now().UnixNano()),
		reconciled: make([]atomic.Bool, keys), changes: map[int]time.Time{},
	}
	seen.left.Store(int64(keys))
	err = ctrl.NewControllerManagedBy(manager).
		For(&corev1.ConfigMap{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(seen)
	if err != nil {
		return err
	}
	return beside(manager, func(ctx context.Context) error {
		locked := func(look func() bool) func() bool {
			return func() bool {
				seen.lock.Lock()
				defer seen.lock.Unlock()
				return look()
			}
		}
		if err := within("the first reconcile", locked(func() bool { return !seen.first.IsZero() })); err != nil {
			return err
		}
		seen.lock.Lock()
		first := seen.first
		seen.lock.Unlock()
		answered := map[int]time.Time{}
		var order []int
		for change := range min(changes, (keys+namespaces-1)/namespaces) {
			time.Sleep(time.Until(first.Add(every * time.Duration(change+1))))
			number := keys - 1 - change*namespaces
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"%s":"%s"}}}`, changed, seen.run)
			if err := manager.GetClient().Patch(ctx, newKey(number), client.RawPatch(types.MergePatchType, patch)); err != nil {
				return err
			}
			answered[number] = time.Now()
			order = append(order, number)
		}
		through := locked(func() bool { return !seen.last.IsZero() })
		if err := within("the reconciles of the initial list", through); err != nil {
			return err
		}
		allSeen := locked(func() bool { return len(seen.changes) == len(order) })
		if err := within("the reconciles of the changes", allSeen); err != nil {
			return err
		}
		seen.lock.Lock()
		defer seen.lock.Unlock()
		var waits []float64
		for _, number := range order {
			wait := max(0, seen.changes[number].Sub(answered[number]))
			waits = append(waits, wait.Seconds()*1e3)
		}
		ofFirst := waits[0]
		slices.Sort(waits)
		return tell(map[string]any{
			"first_ms": ofFirst, "p50_ms": waits[(len(waits)-1)/2], "max_ms": waits[len(waits)-1],
			"list_s": seen.last.Sub(seen.first).Seconds(),
		})
	})
}
