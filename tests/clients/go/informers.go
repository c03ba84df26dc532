package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/features"
	clientinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

var (
	definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	gears       = schema.GroupVersionResource{Group: "clients.example.com", Version: "v1", Resource: "gears"}
	configMaps  = corev1.SchemeGroupVersion.WithResource("configmaps")
)

// informers are the shared ones: typed, of a custom kind, and of metadata alone; each sees what is there and what changes.
func informers(ctx context.Context, config *rest.Config) {
	check("lists come as watches by default", features.FeatureGates().Enabled(features.WatchListClient), true)
	client := got(kubernetes.NewForConfig(config))
	const ns = "informed"
	namespace(ctx, client, ns)
	maps := client.CoreV1().ConfigMaps(ns)
	_, err := maps.Create(ctx, configMap("before", "1"), metav1.CreateOptions{})
	must("a create", err)

	factory := clientinformers.NewSharedInformerFactoryWithOptions(client, 0, clientinformers.WithNamespace(ns))
	typed := factory.Core().V1().ConfigMaps()
	told := follow(typed.Informer())
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		check("synced: "+kind.String(), synced, true)
	}
	metas := metadatainformer.NewFilteredSharedInformerFactory(got(metadata.NewForConfig(config)), 0, ns, nil)
	toldMetas := follow(metas.ForResource(configMaps).Informer())
	metas.Start(ctx.Done())
	for _, events := range []<-chan string{told, toldMetas} {
		check("what is there", next(ctx, "the present", events), "add before")
	}
	created, err := maps.Create(ctx, configMap("after", "1"), metav1.CreateOptions{})
	must("a create", err)
	created.Data["k"] = "2"
	_, err = maps.Update(ctx, created, metav1.UpdateOptions{})
	must("an update", err)
	must("a delete", maps.Delete(ctx, "before", metav1.DeleteOptions{}))
	for name, events := range map[string]<-chan string{"typed": told, "metadata": toldMetas} {
		for _, want := range []string{"add after", "update after", "delete before"} {
			check(name+": "+want, next(ctx, want, events), want)
		}
	}
	listed := got(typed.Lister().ConfigMaps(ns).List(labels.Everything()))
	check("the lister", []string{listed[0].Name, listed[0].Data["k"]}, []string{"after", "2"})

	custom(ctx, got(dynamic.NewForConfig(config)), ns)
}

// custom follows a kind that exists since a moment ago.
func custom(ctx context.Context, client dynamic.Interface, ns string) {
	kinds := client.Resource(definitions)
	_, err := kinds.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "gears.clients.example.com"},
		"spec": map[string]any{
			"group": gears.Group, "scope": "Namespaced",
			"names": map[string]any{"plural": "gears", "singular": "gear", "kind": "Gear"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "x-kubernetes-preserve-unknown-fields": true,
				}},
			}},
		},
	}}, metav1.CreateOptions{})
	must("a definition", err)
	watched, err := kinds.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=gears.clients.example.com"})
	must("a watch", err)
	for served := false; !served; {
		event := next(ctx, "the definition's conditions", watched.ResultChan())
		conditions, _, _ := unstructured.NestedSlice(event.Object.(*unstructured.Unstructured).Object, "status", "conditions")
		for _, c := range conditions {
			condition := c.(map[string]any)
			served = served || condition["type"] == "Established" && condition["status"] == "True"
		}
	}
	watched.Stop()

	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, ns, nil)
	informer := factory.ForResource(gears).Informer()
	told := follow(informer)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	gear := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "clients.example.com/v1", "kind": "Gear", "metadata": map[string]any{"name": "g"}, "teeth": int64(9),
	}}
	own := client.Resource(gears).Namespace(ns)
	_, err = own.Create(ctx, gear, metav1.CreateOptions{})
	must("a create", err)
	check("custom: a create", next(ctx, "a create", told), "add g")
	gear.Object["teeth"] = int64(10)
	_, err = own.Apply(ctx, "g", gear, metav1.ApplyOptions{FieldManager: "one", Force: true})
	must("apply", err)
	check("custom: apply", next(ctx, "apply", told), "update g")
	must("a delete", own.Delete(ctx, "g", metav1.DeleteOptions{}))
	check("custom: a delete", next(ctx, "a delete", told), "delete g")
	check("custom: the store", len(informer.GetStore().List()), 0)
}

// follow tells what an informer's handlers are called with.
func follow(informer cache.SharedIndexInformer) <-chan string {
	told := make(chan string, 64)
	tell := func(what string, object any) {
		if name := object.(metav1.Object).GetName(); name != "kube-root-ca.crt" { // controllers make it, where they run
			told <- what + " " + name
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell("add", object) },
		UpdateFunc: func(_, object any) { tell("update", object) },
		DeleteFunc: func(object any) { tell("delete", object) },
	})
	must("a handler", err)
	return told
}
