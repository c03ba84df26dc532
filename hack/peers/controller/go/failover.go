package main

import (
	"context"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/config"
)

// Says when the first reconcile begins.
type first struct{ told atomic.Bool }

func (f *first) Reconcile(context.Context, ctrl.Request) (ctrl.Result, error) {
	if f.told.Swap(true) {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, tell(map[string]any{"reconciled_ns": time.Now().UnixNano()})
}

// Says when the replica is ready, on each of them.
type ready struct {
	cache cache.Cache
	tuned bool
}

func (ready) NeedLeaderElection() bool { return false }

func (r ready) Start(ctx context.Context) error {
	if r.tuned {
		// Otherwise the cache is filled when the replica leads.
		if _, err := r.cache.GetInformer(ctx, &corev1.ConfigMap{}); err != nil {
			return err
		}
	}
	if err := tell(map[string]any{"ready": true}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// A replica, until it is told to stop: by the defaults, or with a queue that is filled before it leads and a lease that is
// given back at the end.
func failover(lease string, tuned bool) error {
	manager, err := newManager(ctrl.Options{
		LeaderElection: true, LeaderElectionID: lease, LeaderElectionNamespace: "default",
		LeaderElectionReleaseOnCancel: tuned,
		Controller:                    config.Controller{EnableWarmup: &tuned},
	})
	if err != nil {
		return err
	}
	if err := ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{}).Complete(&first{}); err != nil {
		return err
	}
	if err := manager.Add(ready{manager.GetCache(), tuned}); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
