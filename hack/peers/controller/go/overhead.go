package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Counts reconciles that have found their object.
type nothing struct {
	client.Reader
	reconciled, wanted atomic.Int64
	reached            chan struct{}
}

func (n *nothing) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var object corev1.ConfigMap
	if err := n.Get(ctx, request.NamespacedName, &object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if n.reconciled.Add(1) == n.wanted.Load() {
		select {
		case n.reached <- struct{}{}:
		default:
		}
	}
	return ctrl.Result{}, nil
}

func (n *nothing) until(what string, wanted int64) error {
	n.wanted.Store(wanted)
	deadline := time.After(patience)
	for n.reconciled.Load() < wanted {
		select {
		case <-n.reached:
		case <-deadline:
			return fmt.Errorf("%s took more than %s", what, patience)
		}
	}
	return nil
}

// What a reconcile costs that does nothing: every key is triggered again and again, with all objects in the cache.
func overhead(keys, rounds int) error {
	manager, err := newManager(ctrl.Options{})
	if err != nil {
		return err
	}
	reconciler := &nothing{Reader: manager.GetClient(), reached: make(chan struct{}, 1)}
	events := make(chan event.GenericEvent)
	err = ctrl.NewControllerManagedBy(manager).
		For(&corev1.ConfigMap{}).
		WatchesRawSource(source.Channel(events, &handler.EnqueueRequestForObject{})).
		Complete(reconciler)
	if err != nil {
		return err
	}
	all := make([]event.GenericEvent, keys)
	for number := range all {
		all[number].Object = newKey(number)
	}
	return beside(manager, func(context.Context) error {
		if err := reconciler.until("the reconciles of the initial list", int64(keys)); err != nil {
			return err
		}
		runtime.GC()
		time.Sleep(pause)
		if reconciled := reconciler.reconciled.Load(); reconciled != int64(keys) {
			return fmt.Errorf("%d reconciles at the start instead of %d", reconciled, keys)
		}
		timesBefore, bytesBefore := asked()
		cpuBefore, err := cpu()
		if err != nil {
			return err
		}
		begun := time.Now()
		for round := range rounds {
			for _, one := range all {
				events <- one
			}
			if err := reconciler.until("a round of reconciles", int64(keys*(round+2))); err != nil {
				return err
			}
		}
		wall := time.Since(begun)
		cpuAfter, err := cpu()
		if err != nil {
			return err
		}
		times, bytes := asked()
		per := func(total float64) float64 { return total / float64(keys*rounds) }
		return tell(map[string]any{
			"cpu_us":      per(float64((cpuAfter - cpuBefore).Microseconds())),
			"wall_us":     per(float64(wall.Microseconds())),
			"allocations": per(float64(times - timesBefore)),
			"bytes":       per(float64(bytes - bytesBefore)),
		})
	})
}
