package main

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// After so long without a reconcile nothing is left to be done; as in the Rust program.
const quiet = 2 * time.Second

type sites struct {
	client.Client
	reconciled []atomic.Bool
	left       atomic.Int64
	count      atomic.Int64
	lock       sync.Mutex
	last       time.Time
}

func (s *sites) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var site Site
	if err := s.Get(ctx, request.NamespacedName, &site); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	err := s.publish(ctx, &site)
	s.ended(site.Name, err == nil)
	return ctrl.Result{}, err
}

// Only what is wished for is set, so that what the server fills in makes no difference.
func (s *sites) publish(ctx context.Context, site *Site) error {
	labels := map[string]string{"app.kubernetes.io/name": "site", "app.kubernetes.io/instance": site.Name}

	page := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: site.Namespace, Name: site.Name}}
	_, err := controllerutil.CreateOrUpdate(ctx, s.Client, page, func() error {
		setLabels(&page.ObjectMeta, labels)
		page.Data = map[string]string{"index.html": site.Spec.HTML}
		return controllerutil.SetControllerReference(site, page, s.Scheme())
	})
	if err != nil {
		return err
	}

	servers := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: site.Namespace, Name: site.Name}}
	_, err = controllerutil.CreateOrUpdate(ctx, s.Client, servers, func() error {
		setLabels(&servers.ObjectMeta, labels)
		if servers.CreationTimestamp.IsZero() {
			servers.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
		}
		servers.Spec.Replicas = &site.Spec.Replicas
		setLabels(&servers.Spec.Template.ObjectMeta, labels)
		pod := &servers.Spec.Template.Spec
		if len(pod.Containers) != 1 {
			pod.Containers = make([]corev1.Container, 1)
		}
		server := &pod.Containers[0]
		server.Name, server.Image = "server", "nginx:1.29-alpine"
		server.Ports = []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP}}
		server.VolumeMounts = []corev1.VolumeMount{{Name: "page", MountPath: "/usr/share/nginx/html", ReadOnly: true}}
		if len(pod.Volumes) != 1 {
			pod.Volumes = make([]corev1.Volume, 1)
		}
		volume := &pod.Volumes[0]
		volume.Name = "page"
		if volume.ConfigMap == nil {
			volume.VolumeSource = corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}
		}
		volume.ConfigMap.Name = site.Name
		return controllerutil.SetControllerReference(site, servers, s.Scheme())
	})
	if err != nil {
		return err
	}

	status := SiteStatus{ObservedGeneration: site.Generation, ReadyReplicas: servers.Status.ReadyReplicas}
	if site.Status == status {
		return nil
	}
	site.Status = status
	return s.Status().Update(ctx, site)
}

func setLabels(meta *metav1.ObjectMeta, labels map[string]string) {
	if meta.Labels == nil {
		meta.Labels = map[string]string{}
	}
	for name, value := range labels {
		meta.Labels[name] = value
	}
}

// A reconcile has ended, well or not.
func (s *sites) ended(name string, well bool) {
	s.count.Add(1)
	s.lock.Lock()
	s.last = time.Now()
	s.lock.Unlock()
	number := numberOf(name)
	if well && number >= 0 && number < len(s.reconciled) && !s.reconciled[number].Swap(true) {
		s.left.Add(-1)
	}
}

// What it takes until all Sites are as they should be.
func children(count, workers int) error {
	manager, err := newManager(ctrl.Options{})
	if err != nil {
		return err
	}
	sites := &sites{Client: manager.GetClient(), reconciled: make([]atomic.Bool, count), last: time.Now()}
	sites.left.Store(int64(count))
	err = ctrl.NewControllerManagedBy(manager).
		For(&Site{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&appsv1.Deployment{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(sites)
	if err != nil {
		return err
	}
	return beside(manager, func(context.Context) error {
		err := within("the reconciles", func() bool {
			sites.lock.Lock()
			defer sites.lock.Unlock()
			return sites.left.Load() == 0 && time.Since(sites.last) >= quiet
		})
		if err != nil {
			return err
		}
		used, err := cpu()
		if err != nil {
			return err
		}
		sites.lock.Lock()
		wall := sites.last.Sub(begun)
		sites.lock.Unlock()
		// Steady is what is needed, not what waits for the collector or has not been given back yet.
		debug.FreeOSMemory()
		time.Sleep(pause)
		steady, err := mib("VmRSS:")
		if err != nil {
			return err
		}
		return tell(map[string]any{
			"wall_s": wall.Seconds(), "cpu_s": used.Seconds(), "reconciles": sites.count.Load(), "steady_rss_mib": steady,
		})
	})
}
