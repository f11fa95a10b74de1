import { Gateway, HTTPRoute } from '@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1'
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { Deployment } from 'kubernetes-models/apps/v1'
import { HorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2'
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1'
import { ConfigMap, Namespace, Service, ServiceAccount } from 'kubernetes-models/v1'
import t from 'tap'
import type { Test } from 'tap'
import { parse } from 'yaml'
import { lastStage } from '../helpers/container.ts'
import { startExample } from '../helpers/example-server.ts'
import { parseObjects, problemsOf, readObjects } from '../helpers/kubernetes.ts'
import type { KubernetesObject, Model } from '../helpers/kubernetes.ts'
import { readPage } from '../helpers/markdown.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { findProgram } from '../helpers/programs.js'
import { startRedis } from '../helpers/redis.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

const root = resolve(import.meta.dirname, '../..')
const example = join(root, 'example/gke')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

const MODELS: Model[] = [
  ConfigMap, Deployment, Gateway, HorizontalPodAutoscaler, HTTPRoute, Namespace, NetworkPolicy, PodDisruptionBudget, Service, ServiceAccount
]

/**
 * The fields of GKE's own kinds as
 * docs.cloud.google.com/kubernetes-engine/docs/how-to/configure-gateway-resources has them (2026-11-28).
 */
const GKE_FIELDS: Record<string, string[]> = {
  GCPBackendPolicy: [
    'targetRef.group', 'targetRef.kind', 'targetRef.name', 'default.securityPolicy', 'default.timeoutSec', 'default.maxRatePerEndpoint',
    'default.connectionDraining.drainingTimeoutSec', 'default.sessionAffinity.type', 'default.sessionAffinity.cookieTtlSec',
    'default.logging.enabled', 'default.logging.sampleRate', 'default.iap.enabled', 'default.iap.clientID', 'default.iap.oauth2ClientSecret.name'
  ],
  HealthCheckPolicy: [
    'targetRef.group', 'targetRef.kind', 'targetRef.name', 'default.checkIntervalSec', 'default.timeoutSec', 'default.healthyThreshold',
    'default.unhealthyThreshold', 'default.logConfig.enabled', 'default.config.type',
    ...['portSpecification', 'port', 'portName', 'host', 'requestPath', 'response', 'proxyHeader'].map(name => `default.config.httpHealthCheck.${name}`)
  ]
}

/** Seconds that pods get on a Spot VM (docs.cloud.google.com/kubernetes-engine/docs/concepts/spot-vms). */
const SPOT_NOTICE = 15

const manifests: Array<[string, KubernetesObject]> = readdirSync(join(example, 'base'))
  .filter(file => file.endsWith('.yaml') && file !== 'kustomization.yaml')
  .flatMap(file => readObjects(join(example, 'base', file)).map((object): [string, KubernetesObject] => [file, object]))
const kustomization = parse(read('example/gke/base/kustomization.yaml'))
const settings = Object.fromEntries(read('example/gke/base/settings.env').trim().split('\n').map(line => line.split('=') as [string, string]))
const server = read('example/gke/server.mjs')

function only (kind: string, objects = manifests.map(([, object]) => object)): KubernetesObject {
  const found = objects.filter(object => object.kind === kind)
  if (found.length !== 1) throw new Error(`${found.length} objects of kind ${kind}`)
  return found[0]!
}

const seconds = (duration: string) => Number(/^(\d+)s$/.exec(duration)?.[1])

/** All values that are no objects, as 'path: value'. */
function leaves (value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null) return [`${path}: ${String(value)}`]
  return Object.entries(value).flatMap(([name, child]) => leaves(child, path === '' ? name : `${path}.${name}`))
}

const paths = (value: unknown) => leaves(value).map(leaf => leaf.slice(0, leaf.indexOf(': ')))

const podOf = (deployment: KubernetesObject) => deployment.spec.template.spec
const containerOf = (deployment: KubernetesObject) => podOf(deployment).containers[0]

t.setTimeout(240_000)

t.test('kustomize takes every manifest', async (t) => {
  t.strictSame(kustomization.resources.toSorted(), Array.from(new Set(manifests.map(([file]) => file))).toSorted())
})

/** Objects as they get to the cluster. */
function check (t: Test, objects: KubernetesObject[]): void {
  for (const object of objects) {
    const model = MODELS.find(({ name }) => name === object.kind)
    const allowed = GKE_FIELDS[object.kind]
    t.ok(model ?? allowed, `${object.kind} is known`)
    if (model) t.strictSame(problemsOf(model, object), [], object.kind)
    if (allowed) t.strictSame(paths(object.spec).filter(path => !allowed.includes(path)), [], object.kind)
  }
}

t.test('every manifest has the fields and values that its kind has', async (t) => {
  t.equal(manifests.length, 11)
  // kustomize sets what is missing here: the Deployment's selector and labels.
  const complete = manifests.map(([, object]) => {
    if (object.kind !== 'Deployment') return object
    const labels = kustomization.labels[0].pairs
    const { spec } = object
    return { ...object, spec: { ...spec, selector: { matchLabels: labels }, template: { ...spec.template, metadata: { labels } } } }
  })
  check(t, complete)
})

t.test('a field that Kubernetes does not know is noticed', async (t) => {
  const wrong = structuredClone(only('PodDisruptionBudget'))
  wrong.spec.maxUnavailible = 1
  wrong.spec.selector.matchLabel = {}
  t.strictSame(problemsOf(PodDisruptionBudget, wrong), ['unknown field spec.maxUnavailible', 'unknown field spec.selector.matchLabel'])
  const route = structuredClone(only('HTTPRoute'))
  route.spec.hostnames = ['no_host']
  route.spec.rules[0].backendRefs[0].prot = 1
  t.match(problemsOf(HTTPRoute, route), [/hostnames\/0 must match pattern/, 'unknown field spec.rules.0.backendRefs.0.prot'])
})

const kubectl = findProgram('kubectl')
const build = async (folder: string) => parseObjects((await promisify(execFile)(kubectl!, ['kustomize', join(example, folder)])).stdout)

t.test('what kustomize makes of them is complete', { skip: kubectl === undefined && 'kubectl is not installed' }, async (t) => {
  const objects = await build('base')
  check(t, objects)
  const config = only('ConfigMap', objects)
  t.strictSame(config.data, settings)
  const deployment = only('Deployment', objects)
  const [{ configMapRef }] = containerOf(deployment).envFrom
  t.equal(configMapRef.name, config.metadata.name, 'a changed setting is rolled out: the name has a hash of the settings')
  t.match(config.metadata.name, /^settings-\w+$/)
  t.match(containerOf(deployment).image, /-docker\.pkg\.dev\/.+:.+/)
  const { labels } = deployment.spec.template.metadata
  for (const kind of ['Service', 'PodDisruptionBudget']) {
    const { selector } = only(kind, objects).spec
    t.strictSame(selector.matchLabels ?? selector, labels, `${kind} is about these pods`)
  }
  for (const { labelSelector } of podOf(deployment).topologySpreadConstraints) t.strictSame(labelSelector.matchLabels, labels)
  const others = objects.filter(({ kind }) => kind !== 'Namespace')
  t.strictSame(others.filter(({ metadata }) => metadata.namespace !== only('Namespace').metadata.name), [])
})

t.test('on Spot VMs everything is the same but the time to go', { skip: kubectl === undefined && 'kubectl is not installed' }, async (t) => {
  const [base, spot] = await Promise.all([build('base'), build('spot')])
  check(t, spot)
  t.strictSame(spot.map(({ kind }) => kind), base.map(({ kind }) => kind))
  const pod = podOf(only('Deployment', spot))
  t.strictSame(pod.nodeSelector, { 'cloud.google.com/gke-spot': 'true' })
  t.match(pod.tolerations, [{ key: 'cloud.google.com/gke-spot', value: 'true', effect: 'NoSchedule' }])
  t.equal(pod.containers[0].lifecycle, undefined)
  t.ok(pod.terminationGracePeriodSeconds <= SPOT_NOTICE)
  const { data } = only('ConfigMap', spot)
  t.ok(seconds(data.SHUTDOWN_TIMEOUT) + 1 < pod.terminationGracePeriodSeconds)
  t.strictSame({ ...data, SHUTDOWN_TIMEOUT: settings.SHUTDOWN_TIMEOUT }, settings)
})

t.test('a pod has time for the load balancer, the drain and its end, and the load balancer waits as long', async (t) => {
  const pod = podOf(only('Deployment'))
  const preStop = pod.containers[0].lifecycle.preStop.sleep.seconds
  const drain = seconds(settings.SHUTDOWN_TIMEOUT!)
  t.ok(pod.terminationGracePeriodSeconds > preStop + drain + 1)
  const { default: policy } = only('GCPBackendPolicy').spec
  t.ok(policy.connectionDraining.drainingTimeoutSec > preStop + drain)
  t.equal(policy.timeoutSec, 24 * 60 * 60)
  t.match(server, /requestTimeout: '24h'/)
})

t.test('a rollout sends a tenth of the clients away at a time', async (t) => {
  const { spec } = only('Deployment')
  t.strictSame(spec.strategy, { type: 'RollingUpdate', rollingUpdate: { maxSurge: '10%', maxUnavailable: 0 } })
  const preStop = containerOf(only('Deployment')).lifecycle.preStop.sleep.seconds
  const lastClose = seconds(settings.SHUTDOWN_TIMEOUT!) / 2 // lib/lifecycle/shutdown.ts, CLOSE_BY
  t.ok(spec.minReadySeconds >= preStop + lastClose, 'the next tenth goes when the one before has closed')
  t.equal(only('PodDisruptionBudget').spec.maxUnavailable, '10%')
  const { behavior } = only('HorizontalPodAutoscaler').spec
  t.match(behavior.scaleDown, { policies: [{ type: 'Percent', value: 10 }], stabilizationWindowSeconds: 1800 })
  t.ok(behavior.scaleDown.policies[0].periodSeconds > preStop + lastClose)
})

t.test('the autoscaler adds pods before they are full, by a metric that the plugin has', async (t) => {
  const { metrics, minReplicas } = only('HorizontalPodAutoscaler').spec
  const { metric, target } = metrics[0].external
  t.equal(target.type, 'AverageValue')
  const share = Number(target.averageValue) / Number(settings.MAX_CONNECTIONS)
  t.equal(share, 0.7)
  const [domain, name, kind] = metric.name.split('|')
  t.strictSame([domain, kind], ['prometheus.googleapis.com', 'gauge'])
  t.ok(read('docs/reference/metrics.md').includes(`\`${name}\``))
  const { matchLabels } = metric.selector
  t.equal(matchLabels['resource.labels.job'], settings.OTEL_SERVICE_NAME)
  // What the adapter takes, of the labels that a prometheus_target has.
  const labels = ['project_id', 'location', 'cluster', 'namespace', 'job', 'instance'].map(label => `resource.labels.${label}`)
  t.strictSame(Object.keys(matchLabels).filter(key => !['resource.type', ...labels].includes(key)), [])
  t.ok(minReplicas >= 2)
  t.equal(only('Deployment').spec.replicas, undefined, 'or each apply would set the number back')
})

t.test('the probes ask what the plugin answers, and a full pod is not the first to be deleted', async (t) => {
  const { startupProbe, readinessProbe, livenessProbe, ports } = containerOf(only('Deployment'))
  t.equal(startupProbe.httpGet.path, '/ready')
  t.equal(livenessProbe.httpGet.path, '/health')
  t.equal(readinessProbe.httpGet.path, '/health', '/ready is 503 of a full pod')
  const { config } = only('HealthCheckPolicy').spec.default
  t.strictSame(config.httpHealthCheck, { portSpecification: 'USE_SERVING_PORT', requestPath: '/ready' })
  t.ok([startupProbe, readinessProbe, livenessProbe].every(({ httpGet }) => httpGet.port === ports[0].name))
  t.equal(only('Service').spec.ports[0].targetPort, ports[0].name)
  t.equal(only('HTTPRoute').spec.rules[0].backendRefs[0].port, only('Service').spec.ports[0].port)
  for (const kind of ['GCPBackendPolicy', 'HealthCheckPolicy']) {
    t.strictSame(only(kind).spec.targetRef, { group: '', kind: 'Service', name: only('Service').metadata.name })
  }
  t.equal(only('HTTPRoute').spec.parentRefs[0].name, only('Gateway').metadata.name)
})

t.test('the container has no rights, and the namespace refuses pods that have', async (t) => {
  const pod = podOf(only('Deployment'))
  t.match(pod.securityContext, { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } })
  t.strictSame(pod.containers[0].securityContext, {
    allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] }
  })
  t.equal(pod.automountServiceAccountToken, false)
  t.equal(pod.serviceAccountName, only('ServiceAccount').metadata.name)
  t.equal(only('Namespace').metadata.labels!['pod-security.kubernetes.io/enforce'], 'restricted')
  const stage = lastStage(example)
  t.equal(stage.findLast(({ name }) => name === 'USER')!.value, 'node')
  t.equal(JSON.parse(stage.findLast(({ name }) => name === 'CMD')!.value)[0], 'node', 'SIGTERM reaches Node')
})

t.test('only the load balancer can set the address that the server trusts', async (t) => {
  t.match(server, /trustedProxies: 2\b/)
  const { ingress, policyTypes } = only('NetworkPolicy').spec
  t.strictSame(policyTypes, ['Ingress'])
  t.strictSame(ingress[0].from.map(({ ipBlock }: { ipBlock: { cidr: string } }) => ipBlock.cidr), ['35.191.0.0/16', '130.211.0.0/22'])
})

t.test('every variable is one that the plugin or the server reads', async (t) => {
  const sources = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'))
  const used = new Set([server, ...sources.map(file => read(`lib/${file}`))].join('\n').match(/\b[A-Z][A-Z0-9_]+\b/g))
  const names = [...Object.keys(settings), ...containerOf(only('Deployment')).env.map(({ name }: { name: string }) => name)]
  t.strictSame(names.filter(name => !used.has(name)), [])
  const mount = containerOf(only('Deployment')).volumeMounts[0]
  t.equal(settings.REDIS_CA_FILE, join(mount.mountPath, 'ca.pem'))
})

t.test('the server asks for the same versions as the plugin is tested with', async (t) => {
  const { devDependencies, dependencies, peerDependencies, version } = JSON.parse(read('package.json'))
  const known = { ...peerDependencies, ...dependencies, ...devDependencies, 'fastify-cloud-run-websocket': `^${version}` }
  const asked = Object.entries(JSON.parse(read('example/gke/package.json')).dependencies)
  t.strictSame(asked.filter(([name, range]) => known[name] !== undefined && range !== known[name]), [])
})

t.test('the README names the objects and settings that there are', async (t) => {
  const commands = readPage('example/gke/README.md').blocks.map(({ code }) => code).join('\n')
  const names = {
    namespace: only('Namespace').metadata.name,
    certmap: only('Gateway').metadata.annotations!['networking.gke.io/certmap'],
    address: only('Gateway').spec.addresses[0].value,
    cluster: only('HorizontalPodAutoscaler').spec.metrics[0].external.metric.selector.matchLabels['resource.labels.cluster'],
    secret: containerOf(only('Deployment')).envFrom[1].secretRef.name,
    configMap: podOf(only('Deployment')).volumes[0].configMap.name
  }
  t.match(commands, `/subject/ns/${names.namespace}/sa/${only('ServiceAccount').metadata.name}`)
  t.match(commands, `certificate-manager maps create ${names.certmap}`)
  t.match(commands, `addresses create ${names.address} --global`)
  t.match(commands, `clusters create-auto ${names.cluster} `)
  t.match(commands, `create secret generic ${names.secret} `)
  t.match(commands, `create configmap ${names.configMap} --from-file=ca.pem`)
  t.match(commands, `apply.sh --service ${settings.OTEL_SERVICE_NAME} --cluster ${names.cluster}`)
  const roles = new Set(Array.from(commands.matchAll(/roles\/[\w.]+/g), ([role]) => role))
  t.strictSame(Array.from(roles).toSorted(), [
    'roles/memorystore.dbConnectionUser', 'roles/monitoring.viewer', 'roles/serviceusage.serviceUsageConsumer', 'roles/telemetry.metricsWriter'
  ])
})

t.test('the page about GKE gives a reason for settings with the values that they have', async (t) => {
  const rows = readPage('docs/gke.md').lines.filter(({ text }) => /^\| `[\w.]+: /.test(text)).map(({ text }) => /`(.+?)`/.exec(text)![1]!)
  t.ok(rows.length > 10)
  const values = manifests.flatMap(([, object]) => leaves(object))
  t.strictSame(rows.filter(row => !values.some(value => value === row || value.endsWith(`.${row}`))), [])
  const block = readPage('docs/gke.md').blocks.find(({ language }) => language === 'js')!.code
  for (const name of ['requestTimeout', 'maxConnectionAge', 'trustedProxies']) {
    const option = new RegExp(`${name}: ([^,]+),`)
    t.equal(option.exec(block)![1], option.exec(server)![1], name)
  }
  t.match(block, `timeout: '${settings.SHUTDOWN_TIMEOUT}'`)
  t.match(block.replaceAll('_', ''), `maxConnections: ${settings.MAX_CONNECTIONS}`)
})

t.test('a pod: the client\'s address, a full pod, and a drain with 503 on /ready', async (t) => {
  const [redis, metadata] = await Promise.all([startRedis(t), startMetadataServer(t)])
  Object.assign(metadata.values, {
    '/instance/attributes/cluster-name': 'chat',
    '/instance/attributes/cluster-location': 'europe-west1'
  })
  // Google's tokens and a Redis with TLS are not here; the tests of lib/options and lib/backends/redis have them.
  const { REDIS_AUTH, REDIS_CA_FILE, ...env } = settings
  const { port, log, exited, terminate } = await startExample(t, example, {
    ...env,
    POD_NAME: 'chat-5d9c6b7f4d-x2x7z',
    POD_NAMESPACE: 'chat',
    KUBERNETES_SERVICE_HOST: '10.96.0.1',
    TOKEN_SECRET: secretOf('of the tests'),
    REDISHOST: '127.0.0.1',
    REDISPORT: String(redis.port),
    MAX_CONNECTIONS: '2',
    SHUTDOWN_TIMEOUT: '60s',
    ...metadata.env
  })
  const url = `ws://127.0.0.1:${port}/ws`
  const status = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).status
  // As the load balancer forwards it: what the client has made up, the client, the load balancer.
  const headers = { 'x-forwarded-for': '203.0.113.66, 198.51.100.7, 34.117.0.1' }
  const ada = await connect(t, url, { headers })
  await until(() => log.some(entry => entry.httpRequest?.status === 101 && entry.httpRequest.remoteIp === '198.51.100.7'), 'the address is the client\'s')
  const grace = await connect(t, url, { headers })
  await until(async () => await status('/ready') === 503, 'the load balancer hears that the pod is full')
  t.equal(await status('/health'), 200, 'Kubernetes keeps it')
  ada.send('hello')
  for (const client of [ada, grace]) t.match(JSON.parse(String(await client.next())), { text: 'hello', time: Number })

  grace.socket.pause() // and does not answer the close: the drain waits for it
  terminate()
  t.match(JSON.parse(String(await ada.next())), { type: 'shutdown', reconnect: true })
  t.equal((await ada.closed).code, 1001)
  const { reasons } = await (await fetch(`http://127.0.0.1:${port}/ready`)).json() as { reasons: string[] }
  t.ok(reasons.includes('draining'))
  t.equal(await status('/health'), 200)
  const refusal = await rejected(url, { headers })
  t.equal(refusal.statusCode, 503)
  t.match(refusal.headers['retry-after'], /^\d+$/)
  grace.socket.resume()
  t.strictSame(await exited, [0, null])
  t.match(log.find(({ event }) => event === 'drain.started'), { connections: 2, timeout: 60_000 })
})
