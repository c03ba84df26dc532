package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
)

// leader has two candidates campaign for a Lease, the second after the first released it, and an event told of each.
func leader(ctx context.Context, config *rest.Config) {
	client := got(kubernetes.NewForConfig(config))
	const ns = "led"
	namespace(ctx, client, ns)
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "clients"})

	leading := make(chan string, 2)
	campaign := func(name string, retry time.Duration) (stop func()) {
		lock := got(resourcelock.New(resourcelock.LeasesResourceLock, ns, "lock", client.CoreV1(),
			client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: name, EventRecorder: recorder}))
		own, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		elector := got(leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, ReleaseOnCancel: true,
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: retry,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { leading <- name },
				OnStoppedLeading: func() {},
			},
		}))
		go func() {
			defer close(done)
			elector.Run(own)
		}()
		return func() {
			cancel()
			<-done
		}
	}
	leases, err := client.CoordinationV1().Leases(ns).Watch(ctx, metav1.ListOptions{})
	must("a watch of the lease", err)
	stopOne := campaign("one", 2*time.Second)
	check("the first leader", next(ctx, "the first leader", leading), "one")
	// A release fails while a renewal is under way: one comes at once, and the next only after the retry period.
	for _, want := range []string{"ADDED", "MODIFIED"} {
		check("the lease", string(next(ctx, "the lease", leases.ResultChan()).Type), want)
	}
	leases.Stop()
	stopTwo := campaign("two", 100*time.Millisecond)
	stopOne()
	check("the second leader, after the release", next(ctx, "the second leader", leading), "two")
	lease, err := client.CoordinationV1().Leases(ns).Get(ctx, "lock", metav1.GetOptions{})
	must("the lease", err)
	check("the holder", *lease.Spec.HolderIdentity, "two")
	check("transitions", *lease.Spec.LeaseTransitions, int32(1))
	stopTwo()

	// The same event again is the same object, counted.
	about, err := client.CoreV1().ConfigMaps(ns).Create(ctx, configMap("about", "1"), metav1.CreateOptions{})
	must("a create", err)
	watched, err := client.CoreV1().Events(ns).Watch(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=about"})
	must("a watch of events", err)
	defer watched.Stop()
	for count := int32(1); count <= 2; count++ {
		recorder.Event(about, corev1.EventTypeWarning, "Tried", "it went wrong")
		event := next(ctx, "an event", watched.ResultChan()).Object.(*corev1.Event)
		check("an event's reason", event.Reason, "Tried")
		check("its count", event.Count, count)
	}
}
