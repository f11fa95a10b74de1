import { execFile } from 'node:child_process'
import dns from 'node:dns'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import t from 'tap'
import { detectPlatform, platformKind, serviceOf, workloadOf } from '../../lib/google/platform.ts'
import { attributesOf, resourceAttributes } from '../../lib/google/resource.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { freePort } from '../helpers/free-port.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { until } from '../helpers/until.ts'

const environment = { K_SERVICE: 'chat', K_REVISION: 'chat-00042-abc', K_CONFIGURATION: 'chat' }

t.test('on Cloud Run the service, project, region and instance are known', async (t) => {
  const metadata = await startMetadataServer(t)
  t.strictSame(await detectPlatform({ ...environment, ...metadata.env }), {
    name: 'cloud_run', service: 'chat', revision: 'chat-00042-abc', configuration: 'chat', project: 'project-1', region: 'europe-west1', instance: '00bf4bf02d'
  })
})

t.test('a project in the environment goes before that of the metadata server', async (t) => {
  const metadata = await startMetadataServer(t)
  t.match(await detectPlatform({ ...environment, ...metadata.env, GOOGLE_CLOUD_PROJECT: 'mine' }), { project: 'mine' })
  t.notOk(metadata.asked.includes('/project/project-id'))
})

t.test('what was answered once is not asked again, what came too late is', async (t) => {
  const metadata = await startMetadataServer(t)
  metadata.values['/instance/id'] = 'hang'
  const first = detectPlatform({ ...environment, ...metadata.env })
  await until(() => metadata.asked.filter(path => path === '/instance/id').length === 2, 'it is asked again')
  metadata.values['/instance/id'] = '00c0ffee'
  t.match(await first, { instance: '00c0ffee' })
  const runs = await Promise.all([1, 2, 3].map(() => detectPlatform({ ...environment, ...metadata.env })))
  t.ok(runs.every(run => run?.name === 'cloud_run' && run.instance === '00c0ffee'))
  t.strictSame(metadata.asked.filter(path => path === '/project/project-id').length, 1)
})

t.test('elsewhere nobody is asked', async (t) => {
  const metadata = await startMetadataServer(t)
  t.equal(await detectPlatform(metadata.env), undefined)
  t.equal(await detectPlatform({ ...metadata.env, K_SERVICE: '', GAE_SERVICE: '', KUBERNETES_SERVICE_HOST: '' }), undefined)
  t.equal(await detectPlatform({ ...metadata.env, GAE_SERVICE: 'chat', GAE_ENV: 'standard' }), undefined, 'which has no WebSockets')
  t.strictSame(metadata.asked, [])
})

t.test('what the metadata server does not know, or does not say in time, is left out', async (t) => {
  const metadata = await startMetadataServer(t)
  metadata.values['/instance/id'] = undefined
  metadata.values['/instance/region'] = 'hang'
  metadata.values['/project/project-id'] = ''
  t.match(await detectPlatform({ ...environment, ...metadata.env }), { service: 'chat', project: undefined, region: undefined, instance: undefined })
  t.match(await detectPlatform({ K_SERVICE: 'chat', GCE_METADATA_HOST: '127.0.0.1:1' }), { service: 'chat', revision: '', configuration: '', project: undefined })
})

const kubernetes = { KUBERNETES_SERVICE_HOST: '10.0.0.1', HOSTNAME: 'chat-7d9f8b6c5d-x2x7z', POD_NAMESPACE: 'live' }

t.test('on App Engine flexible the service, version, project, zone and instance are known', async (t) => {
  const metadata = await startMetadataServer(t)
  const appEngine = { GAE_SERVICE: 'chat', GAE_VERSION: '20261128t1', ...metadata.env }
  t.strictSame(await detectPlatform({ ...appEngine, GAE_INSTANCE: 'aef-chat-1', GOOGLE_CLOUD_PROJECT: 'mine' }), {
    name: 'app_engine', service: 'chat', version: '20261128t1', project: 'mine', zone: 'europe-west1-1', instance: 'aef-chat-1'
  })
  t.match(await detectPlatform(appEngine), { project: 'project-1', instance: '00bf4bf02d' })
})

t.test('on GKE the cluster, location, project, namespace and pod are known', async (t) => {
  const metadata = await startMetadataServer(t)
  Object.assign(metadata.values, { '/instance/attributes/cluster-name': 'main', '/instance/attributes/cluster-location': 'europe-west1' })
  t.strictSame(await detectPlatform({ ...kubernetes, ...metadata.env }), {
    name: 'gke', cluster: 'main', location: 'europe-west1', project: 'project-1', namespace: 'live', pod: 'chat-7d9f8b6c5d-x2x7z'
  })
  t.match(await detectPlatform({ ...kubernetes, ...metadata.env, POD_NAME: 'chat-0' }), { pod: 'chat-0' }, 'which the host need not be named after')
  const bare = await detectPlatform({ KUBERNETES_SERVICE_HOST: '10.0.0.1', ...metadata.env })
  t.match(bare, { name: 'gke', namespace: undefined, pod: undefined }, 'the namespace is read from the token of the service account, which is not mounted here')
})

t.test('a Kubernetes that is not Google\'s is found out after one question, and asked no more', async (t) => {
  const metadata = await startMetadataServer(t)
  t.equal(await detectPlatform({ ...kubernetes, ...metadata.env }), undefined, 'on Compute Engine there is a metadata server, but no cluster')
  t.equal(await detectPlatform({ ...kubernetes, ...metadata.env }), undefined)
  t.strictSame(metadata.asked, ['/instance/attributes/cluster-name'])
  t.equal(await detectPlatform({ ...kubernetes, GCE_METADATA_HOST: '127.0.0.1:1' }, 1), undefined)
  const { lookup } = dns
  t.teardown(() => { dns.lookup = lookup })
  let lookups = 0
  dns.lookup = ((_name: string, _options: object, done: (error: Error) => void) => {
    lookups++
    done(Object.assign(new Error('not found'), { code: 'ENOTFOUND' }))
  }) as never
  t.equal(await detectPlatform(kubernetes), undefined)
  t.equal(lookups, 1, 'a name that is not known will not be known in a second')
})

t.test('one deadline holds for all questions, and nobody waits for it twice', async (t) => {
  const metadata = await startMetadataServer(t)
  metadata.values['/instance/attributes/cluster-name'] = 'hang'
  const asked = () => metadata.asked.length
  t.equal(await detectPlatform({ ...kubernetes, ...metadata.env }, 100), undefined)
  t.ok(asked() <= 2, 'a second has no room for a third question: one may take 800 ms')
  const before = asked()
  t.equal(await detectPlatform({ ...kubernetes, ...metadata.env }, 100), undefined)
  t.equal(asked(), before)
})

t.test("GKE's metadata server may start after the pod has", async (t) => {
  const port = await freePort()
  const server = createServer((request, response) => response.end(request.url!.endsWith('cluster-name') ? 'main' : ''))
  t.teardown(() => { server.close() })
  const detected = detectPlatform({ ...kubernetes, GCE_METADATA_HOST: `127.0.0.1:${port}` }, 100)
  setImmediate(() => server.listen(port, '127.0.0.1'))
  t.match(await detected, { name: 'gke', cluster: 'main', location: undefined })
})

t.test("a workload's name is its pods' name without what Kubernetes appends", async (t) => {
  for (const pod of ['chat-7d9f8b6c5d-x2x7z', 'chat-5c4-x2x7z', 'chat-0', 'chat-12', 'chat-x2x7z', 'chat']) t.equal(workloadOf(pod), 'chat', pod)
  t.equal(workloadOf('chat-web'), 'chat-web', 'e is no letter that Kubernetes would take')
  t.equal(workloadOf(undefined), undefined)
})

t.test('the environment alone tells the service, for errors and commands', async (t) => {
  const cases: Array<[NodeJS.ProcessEnv, ReturnType<typeof platformKind>, string | undefined, string | undefined]> = [
    [environment, 'cloud_run', 'chat', 'chat-00042-abc'],
    [{ GAE_SERVICE: 'default', GAE_VERSION: 'v2' }, 'app_engine', 'default', 'v2'],
    [kubernetes, 'kubernetes', 'chat', undefined],
    [{ ...kubernetes, OTEL_SERVICE_NAME: 'talk' }, 'kubernetes', 'talk', undefined],
    [{ HOSTNAME: 'laptop-0' }, undefined, undefined, undefined]
  ]
  for (const [env, kind, service, version] of cases) {
    t.equal(platformKind(env), kind)
    t.strictSame(serviceOf(env), { service, version })
  }
})

t.test('the resource says who sends, and what the environment says goes before', async (t) => {
  const unknown = { project: undefined, region: undefined, instance: undefined }
  const run = { name: 'cloud_run', service: 'chat', revision: 'chat-1', configuration: 'chat', ...unknown } as const
  const random = /^[0-9a-f-]{36}$/
  const all = (env: Record<string, string>) => attributesOf(run, env)
  t.match(all({}), { 'cloud.platform': 'gcp_cloud_run', 'service.name': 'chat', 'service.instance.id': random })
  t.strictSame(Object.keys(all({})).filter(name => name.startsWith('gcp.') || name === 'cloud.region' || name === 'faas.instance'), [], 'what is unknown is left out')
  t.equal(all({})['service.instance.id'], attributesOf(undefined, {})['service.instance.id'], 'one process is one instance')
  t.match(all({ OTEL_SERVICE_NAME: 'a', OTEL_RESOURCE_ATTRIBUTES: 'service.name=b, x = 1%2C2 ,service.instance.id=c' }), { 'service.name': 'a', x: '1,2', 'service.instance.id': random })
  for (const wrong of ['x', 'x=1=2', 'y=1,x=%']) t.strictSame(Object.keys(attributesOf(undefined, { OTEL_RESOURCE_ATTRIBUTES: wrong })), ['service.instance.id'], wrong)
  t.match(attributesOf(undefined, { OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=pod-7' }), { 'service.instance.id': 'pod-7' })
})

t.test('each platform has the attributes of which Google makes location, cluster, namespace, job and instance', async (t) => {
  const project = { project: 'project-1' }
  const gcp = { 'gcp.project_id': 'project-1', 'cloud.account.id': 'project-1', 'cloud.provider': 'gcp' }
  const pod = 'chat-7d9f8b6c5d-x2x7z'
  const gke = { name: 'gke', ...project, cluster: 'main', location: 'europe-west1', namespace: 'live', pod } as const
  const onGke = {
    ...gcp,
    'cloud.platform': 'gcp_kubernetes_engine',
    'cloud.region': 'europe-west1',
    'k8s.cluster.name': 'main',
    'k8s.namespace.name': 'live',
    'k8s.pod.name': pod,
    'service.name': 'chat',
    'service.instance.id': pod
  }
  t.strictSame(attributesOf(gke, {}), onGke)
  const { 'cloud.region': _region, ...anywhere } = onGke
  t.strictSame(attributesOf({ ...gke, location: 'europe-west1-b' }, {}), { ...anywhere, 'cloud.availability_zone': 'europe-west1-b' }, 'a zonal cluster')
  const env = { OTEL_SERVICE_NAME: 'talk', OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=pod-7,k8s.namespace.name=other' }
  t.match(attributesOf(gke, env), { 'service.name': 'talk', 'service.instance.id': 'pod-7', 'k8s.namespace.name': 'other' }, 'the downward API tells pods apart')

  const appEngine = { name: 'app_engine', ...project, service: 'chat', version: 'v2', zone: 'europe-west1-b', instance: 'aef-1' } as const
  t.strictSame(attributesOf(appEngine, { OTEL_RESOURCE_ATTRIBUTES: 'service.instance.id=the-same-for-all' }), {
    ...gcp,
    'cloud.platform': 'gcp_app_engine',
    'cloud.region': 'europe-west1',
    cluster: '__gae__',
    'faas.name': 'chat',
    'faas.version': 'v2',
    'faas.instance': 'aef-1',
    'service.name': 'chat',
    'service.version': 'v2',
    'service.instance.id': 'aef-1'
  })
})

t.test("a process waits for the attributes of its SDK while GKE's metadata server is not up", async (t) => {
  let up = false
  const server = createServer(({ socket, url }, response) => {
    if (up) return response.end(url!.endsWith('cluster-name') ? 'main' : '')
    up = true
    socket.destroy()
  })
  t.teardown(() => { server.close() })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const { K_SERVICE, GAE_SERVICE, ...inherited } = process.env
  const env = { ...inherited, KUBERNETES_SERVICE_HOST: '10.0.0.1', GCE_METADATA_HOST: `127.0.0.1:${port}` }
  const url = new URL('../../lib/google/resource.ts', import.meta.url).href
  const script = `const { resourceAttributes } = await import('${url}'); console.log((await resourceAttributes())['k8s.cluster.name'])`
  const run = promisify(execFile)(process.execPath, [...process.execArgv, '--input-type=module', '--eval', script], { env })
  t.match(await run, { stdout: 'main\n' })
})

t.test("an app's own SDK gets the same attributes", async (t) => {
  const metadata = await startMetadataServer(t)
  setEnvironment(t, { ...environment, ...metadata.env })
  t.match(await resourceAttributes(), { 'cloud.region': 'europe-west1', 'service.name': 'chat', 'service.instance.id': '00bf4bf02d' })
})
