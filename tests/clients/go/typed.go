package main

import (
	"context"
	"encoding/json"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	applyapps "k8s.io/client-go/applyconfigurations/apps/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"
)

// typed is the typed clientset, once by protobuf and once by JSON.
func typed(ctx context.Context, config *rest.Config) {
	for name, content := range map[string]string{
		"by-protobuf": runtime.ContentTypeProtobuf, "by-json": runtime.ContentTypeJSON,
	} {
		own := rest.CopyConfig(config)
		own.ContentType, own.AcceptContentTypes = content, content
		client := got(kubernetes.NewForConfig(own))
		namespace(ctx, client, name)
		objects(ctx, client, name)
		applied(ctx, client, name)
	}
	discovered(config)
}

func objects(ctx context.Context, client kubernetes.Interface, ns string) {
	maps := client.CoreV1().ConfigMaps(ns)
	made, err := maps.Create(ctx, configMap("a", "1"), metav1.CreateOptions{})
	must("a create", err)
	check(ns+": a create", made.Data, map[string]string{"k": "1"})
	_, err = maps.Create(ctx, configMap("a", "1"), metav1.CreateOptions{})
	refused(ns+": a second create", err, metav1.StatusReasonAlreadyExists, `configmaps "a" already exists`)
	_, err = maps.Create(ctx, configMap("No_Name", "1"), metav1.CreateOptions{})
	refused(ns+": a bad name", err, metav1.StatusReasonInvalid, "metadata.name: Invalid value")

	changed := made.DeepCopy()
	changed.Data["k"] = "2"
	_, err = maps.Update(ctx, changed, metav1.UpdateOptions{})
	must("an update", err)
	_, err = maps.Update(ctx, changed, metav1.UpdateOptions{})
	refused(ns+": a stale update", err, metav1.StatusReasonConflict, "the object has been modified")
	tries, current := 0, made // the first try is stale
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		tries++
		if tries > 1 {
			if current, err = maps.Get(ctx, "a", metav1.GetOptions{}); err != nil {
				return err
			}
		}
		current = current.DeepCopy()
		current.Data["k"] = "3"
		_, err := maps.Update(ctx, current, metav1.UpdateOptions{})
		return err
	})
	must("retry on conflict", err)
	check(ns+": retried on conflict", tries, 2)

	for data, kind := range map[string]types.PatchType{
		`{"data":{"s":"1"}}`:                          types.StrategicMergePatchType,
		`{"data":{"m":"1"}}`:                          types.MergePatchType,
		`[{"op":"add","path":"/data/j","value":"1"}]`: types.JSONPatchType,
	} {
		_, err = maps.Patch(ctx, "a", kind, []byte(data), metav1.PatchOptions{})
		must(string(kind), err)
	}
	current, err = maps.Get(ctx, "a", metav1.GetOptions{})
	must("a get", err)
	check(ns+": three patches", current.Data, map[string]string{"k": "3", "s": "1", "m": "1", "j": "1"})

	for _, name := range []string{"b", "c", "d", "e"} {
		_, err = maps.Create(ctx, configMap(name, "1"), metav1.CreateOptions{})
		must("a create", err)
	}
	names, pages := []string{}, 0
	lists := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		pages++
		return maps.List(ctx, options)
	})
	lists.PageSize = 2
	err = lists.EachListItem(ctx, metav1.ListOptions{LabelSelector: "by=go"}, func(item runtime.Object) error {
		names = append(names, item.(*corev1.ConfigMap).Name)
		return nil
	})
	must("a list by pages", err)
	check(ns+": a list by pages", names, []string{"a", "b", "c", "d", "e"})
	check(ns+": pages", pages, 3)

	listed, err := maps.List(ctx, metav1.ListOptions{})
	must("a list", err)
	watched, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: listed.ResourceVersion})
	must("a watch", err)
	must("a delete", maps.Delete(ctx, "a", metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(made.UID))}))
	event := next(ctx, "an event", watched.ResultChan())
	watched.Stop()
	check(ns+": a watch", string(event.Type)+" "+event.Object.(*corev1.ConfigMap).Name, "DELETED a")
	_, err = maps.Get(ctx, "a", metav1.GetOptions{})
	refused(ns+": a get of what is gone", err, metav1.StatusReasonNotFound, `configmaps "a" not found`)
}

func applied(ctx context.Context, client kubernetes.Interface, ns string) {
	labels := map[string]string{"app": "applied"}
	wanted := applyapps.Deployment("applied", ns).WithSpec(applyapps.DeploymentSpec().
		WithReplicas(2).
		WithSelector(applymeta.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(applycore.PodTemplateSpec().WithLabels(labels).WithSpec(applycore.PodSpec().
			WithContainers(applycore.Container().WithName("main").WithImage("example.com/main:1")))))
	deployments := client.AppsV1().Deployments(ns)
	made, err := deployments.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "one"})
	must("apply", err)
	check(ns+": applied", *made.Spec.Replicas, int32(2))
	mine := got(applyapps.ExtractDeployment(made, "one"))
	check(ns+": what is mine", *mine.Spec.Replicas, int32(2))
	check(ns+": what is not mine", mine.Spec.RevisionHistoryLimit == nil, true)
	other := applyapps.Deployment("applied", ns).WithSpec(applyapps.DeploymentSpec().WithReplicas(3))
	_, err = deployments.Apply(ctx, other, metav1.ApplyOptions{FieldManager: "two"})
	refused(ns+": a conflict", err, metav1.StatusReasonConflict, `conflict with "one": .spec.replicas`)
	made, err = deployments.Apply(ctx, other, metav1.ApplyOptions{FieldManager: "two", Force: true})
	must("apply by force", err)
	check(ns+": by force", *made.Spec.Replicas, int32(3))

	scale, err := deployments.GetScale(ctx, "applied", metav1.GetOptions{})
	must("the scale", err)
	scale.Spec.Replicas = 4
	scale, err = deployments.UpdateScale(ctx, "applied", scale, metav1.UpdateOptions{})
	must("a scale's update", err)
	check(ns+": the scale", scale.Spec.Replicas, int32(4))
	status := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "applied"}, Status: appsv1.DeploymentStatus{Replicas: 1}}
	data := got(json.Marshal(map[string]any{"status": status.Status}))
	made, err = deployments.Patch(ctx, "applied", types.MergePatchType, data, metav1.PatchOptions{}, "status")
	must("a patch of the status", err)
	check(ns+": the status", []int32{*made.Spec.Replicas, made.Status.Replicas}, []int32{4, 1})
}

func discovered(config *rest.Config) {
	client := got(kubernetes.NewForConfig(config))
	check("the major version", got(client.Discovery().ServerVersion()).Major, "1")
	resources, err := client.Discovery().ServerPreferredResources()
	must("discovery", err)
	kinds := map[string]bool{}
	for _, group := range resources {
		for _, resource := range group.APIResources {
			kinds[group.GroupVersion+" "+resource.Kind] = true
		}
	}
	for _, kind := range []string{"v1 Pod", "apps/v1 Deployment", "coordination.k8s.io/v1 Lease", "events.k8s.io/v1 Event"} {
		check("discovery of "+kind, kinds[kind], true)
	}
	document, err := client.Discovery().OpenAPISchema()
	must("OpenAPI v2 in protobuf", err)
	check("definitions", len(document.GetDefinitions().GetAdditionalProperties()) > 100, true)
	paths, err := client.Discovery().OpenAPIV3().Paths()
	must("OpenAPI v3", err)
	check("OpenAPI v3 of apps/v1", paths["apis/apps/v1"] != nil, true)
}
