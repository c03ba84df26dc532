// @kubernetes/client-node: typed objects, patches, apply, watches and the informer, custom kinds, and a user by token.
import * as k8s from '@kubernetes/client-node';
import { Queue, check, config, refused } from './shared.mjs';

const namespace = 'node';
const core = config.makeApiClient(k8s.CoreV1Api);
await core.createNamespace({ body: { metadata: { name: namespace } } });
const map = (name, data) => ({ metadata: { name, labels: { by: 'node' } }, data });
const names = (list) => list.items.map((item) => item.metadata.name);

// Objects.
const made = await core.createNamespacedConfigMap({ namespace, body: map('a', { k: '1' }) });
check('a create', [made.data, made.metadata.creationTimestamp instanceof Date], [{ k: '1' }, true]);
await refused('a second create', core.createNamespacedConfigMap({ namespace, body: map('a', {}) }),
  409, 'AlreadyExists', 'configmaps "a" already exists');
await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { ...made, data: { k: '2' } } });
await refused('a stale write', core.replaceNamespacedConfigMap({ namespace, name: 'a', body: made }),
  409, 'Conflict', 'the object has been modified');

// Patches.
const patch = (body, type, options = {}) => core.patchNamespacedConfigMap(
  { namespace, name: 'a', body, ...options }, k8s.setHeaderOptions('Content-Type', type));
check('a JSON patch', (await patch([{ op: 'replace', path: '/data/k', value: '3' }], k8s.PatchStrategy.JsonPatch)).data, { k: '3' });
check('a merge', (await patch({ data: { m: '1' } }, k8s.PatchStrategy.MergePatch)).data, { k: '3', m: '1' });
check('a strategic merge', (await patch({ data: { m: null } }, k8s.PatchStrategy.StrategicMergePatch)).data, { k: '3' });
const apply = (data, fieldManager, force) => core.patchNamespacedConfigMap(
  { namespace, name: 'applied', fieldManager, force, body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied' }, data } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.ServerSideApply));
check('applied', (await apply({ a: '1', b: '1' }, 'one')).data, { a: '1', b: '1' });
await refused('a conflict', apply({ a: '2' }, 'two'), 409, 'Conflict', 'conflict with "one": .data.a');
check('by force', (await apply({ a: '2' }, 'two', true)).data, { a: '2', b: '1' });
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const generic = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace } };
check('any kind: read', (await objects.read(generic)).data, { a: '2', b: '1' });
check('any kind: patched', (await objects.patch({ ...generic, data: { c: '1' } }, undefined, undefined, 'three', undefined,
  k8s.PatchStrategy.MergePatch)).data, { a: '2', b: '1', c: '1' });

// Lists.
for (const name of ['b', 'c', 'd']) await core.createNamespacedConfigMap({ namespace, body: map(name, { k: '1' }) });
const pages = [];
let _continue;
do {
  const page = await core.listNamespacedConfigMap({ namespace, labelSelector: 'by=node', limit: 3, _continue });
  pages.push(names(page));
  _continue = page.metadata._continue;
} while (_continue);
check('pages', pages, [['a', 'b', 'c'], ['d']]);

// A watch from a version, and the informer.
const listed = await core.listNamespacedConfigMap({ namespace });
await core.deleteNamespacedConfigMap({ namespace, name: 'd' });
const path = `/api/v1/namespaces/${namespace}/configmaps`;
const events = new Queue();
const watch = await new k8s.Watch(config).watch(path, { resourceVersion: listed.metadata.resourceVersion },
  (phase, object) => events.push(`${phase} ${object.metadata.name}`), () => {});
check('a watch', await events.next(), 'DELETED d');
watch.abort();
const told = new Queue();
const informer = k8s.makeInformer(config, path,
  () => core.listNamespacedConfigMap({ namespace, labelSelector: 'by=node' }), 'by=node');
for (const verb of ['add', 'update', 'delete']) informer.on(verb, (object) => told.push(`${verb} ${object.metadata.name}`));
informer.on('error', (error) => told.push(`error ${error}`));
await informer.start();
check('what is there', [await told.next(), await told.next(), await told.next()], ['add a', 'add b', 'add c']);
await core.createNamespacedConfigMap({ namespace, body: map('e', { k: '1' }) });
check('a create', await told.next(), 'add e');
await patch({ data: { k: '9' } }, k8s.PatchStrategy.MergePatch);
check('a patch', await told.next(), 'update a');
await core.deleteNamespacedConfigMap({ namespace, name: 'b' });
check('a delete', await told.next(), 'delete b');
check('the cache', informer.list(namespace).map((item) => item.metadata.name).sort(), ['a', 'c', 'e']);
await informer.stop();

// A kind of its own.
const group = 'clients.example.com';
const definition = `bolts.${group}`;
const conditions = new Queue();
const definitions = await new k8s.Watch(config).watch('/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
  { fieldSelector: `metadata.name=${definition}` },
  (_, object) => conditions.push(object.status?.conditions ?? []), () => {});
await config.makeApiClient(k8s.ApiextensionsV1Api).createCustomResourceDefinition({
  body: {
    metadata: { name: definition },
    spec: {
      group, scope: 'Namespaced', names: { plural: 'bolts', singular: 'bolt', kind: 'Bolt' },
      versions: [{
        name: 'v1', served: true, storage: true, subresources: { status: {} },
        schema: { openAPIV3Schema: { type: 'object', properties: {
          spec: { type: 'object', properties: { size: { type: 'integer', _default: 4, maximum: 9 } } },
          status: { type: 'object', x_kubernetes_preserve_unknown_fields: true },
        } } },
      }],
    },
  },
});
while (!(await conditions.next()).some((c) => c.type === 'Established' && c.status === 'True'));
definitions.abort();
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const where = { group, version: 'v1', namespace, plural: 'bolts' };
const bolt = (name, spec) => ({ apiVersion: `${group}/v1`, kind: 'Bolt', metadata: { name }, spec });
check('a default', (await custom.createNamespacedCustomObject({ ...where, body: bolt('b', {}) })).spec, { size: 4 });
await refused('too big', custom.createNamespacedCustomObject({ ...where, body: bolt('c', { size: 10 }) }),
  422, 'Invalid', 'spec.size in body should be less than or equal to 9');
const merged = await custom.patchNamespacedCustomObjectStatus(
  { ...where, name: 'b', body: { status: { ready: true }, spec: { size: 1 } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
check('only the status', [merged.spec, merged.status], [{ size: 4 }, { ready: true }]);

// A service account, by a kubeconfig that holds its token.
await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'robot' } } });
const { status: { token } } = await core.createNamespacedServiceAccountToken(
  { namespace, name: 'robot', body: { spec: { audiences: [], expirationSeconds: 3600 } } });
const theirs = new k8s.KubeConfig();
theirs.loadFromString(JSON.stringify({
  apiVersion: 'v1', kind: 'Config', 'current-context': 'c',
  clusters: [{ name: 'c', cluster: {
    server: config.getCurrentCluster().server, 'certificate-authority-data': config.getCurrentCluster().caData,
  } }],
  users: [{ name: 'u', user: { token } }],
  contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
}));
const user = `system:serviceaccount:${namespace}:robot`;
const review = await theirs.makeApiClient(k8s.AuthenticationV1Api).createSelfSubjectReview({ body: {} });
check('who', review.status.userInfo.username, user);
await refused('not allowed', theirs.makeApiClient(k8s.CoreV1Api).listNamespacedSecret({ namespace }),
  403, 'Forbidden', `User "${user}" cannot list resource "secrets" in API group "" in the namespace "${namespace}"`);
process.exit(0);
