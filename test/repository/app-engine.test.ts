import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { SignJWT } from 'jose'
import t from 'tap'
import type { Test } from 'tap'
import { parse } from 'yaml'
import { lastStage } from '../helpers/container.ts'
import { startExample } from '../helpers/example-server.ts'
import { readPage } from '../helpers/markdown.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { startRedis } from '../helpers/redis.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const root = resolve(import.meta.dirname, '../..')
const example = join(root, 'example/app-engine')
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const app = parse(read('example/app-engine/app.yaml'), { strict: true, uniqueKeys: true })
const server = read('example/app-engine/server.mjs')

const name = (value: unknown) => typeof value === 'string' && /^[a-z][a-z0-9-]*$/.test(value)
const path = (value: unknown) => typeof value === 'string' && value.startsWith('/')
const number = (min: number, max: number) => (value: unknown) => typeof value === 'number' && value >= min && value <= max
const check = {
  path,
  check_interval_sec: number(1, 300),
  timeout_sec: number(1, 300),
  failure_threshold: number(1, 10),
  success_threshold: number(1, 10)
}

/**
 * Fields that this app.yaml may have, each with what it takes, as
 * docs.cloud.google.com/appengine/docs/flexible/reference/app-yaml has them (2026-11-28).
 */
const FIELDS: Record<string, unknown> = {
  runtime: name,
  env: (value: unknown) => value === 'flex',
  service_account: (value: unknown) => /^[a-z0-9-]+@[a-z0-9-]+\.iam\.gserviceaccount\.com$/.test(String(value)),
  resources: { cpu: number(1, 96), memory_gb: number(0.6, 6.1), disk_size_gb: number(10, 10_240) },
  automatic_scaling: {
    min_num_instances: number(1, 1_000),
    max_num_instances: number(1, 1_000),
    cool_down_period_sec: number(60, 3_600),
    cpu_utilization: { target_utilization: number(0.1, 1) },
    target_concurrent_requests: number(1, 100_000)
  },
  network: { name, session_affinity: (value: unknown) => typeof value === 'boolean' },
  readiness_check: { ...check, app_start_timeout_sec: number(1, 1_800) },
  liveness_check: { ...check, initial_delay_sec: number(0, 3_600) },
  env_variables: (value: unknown) => Object.values(value as object).every(value => typeof value === 'string')
}

/** Seconds after SIGTERM (docs.cloud.google.com/appengine/docs/flexible/how-instances-are-managed#shutdown). */
const GRACE = 30

function wrong (given: Record<string, unknown>, allowed: Record<string, unknown>, at = ''): string[] {
  return Object.entries(given).flatMap(([name, value]) => {
    const rule = allowed[name]
    if (typeof rule === 'object') return wrong(value as Record<string, unknown>, rule as Record<string, unknown>, `${at}${name}.`)
    return typeof rule === 'function' && rule(value) === true ? [] : [`${at}${name}: ${JSON.stringify(value)}`]
  })
}

t.setTimeout(240_000)

t.test('app.yaml has the fields and values that App Engine takes', async (t) => {
  t.strictSame(wrong(app, FIELDS), [])
  const found = wrong({ ...app, env: 'standard', readiness_check: { ...app.readiness_check, timeout_secs: 4 } }, FIELDS)
  t.strictSame(found, ['env: "standard"', 'readiness_check.timeout_secs: 4'], 'a mistake is noticed')
})

t.test('the checks ask what the plugin answers', async (t) => {
  t.equal(app.readiness_check.path, '/ready')
  t.equal(app.liveness_check.path, '/health')
})

t.test('no client depends on an instance, and one instance may go', async (t) => {
  t.equal(app.network.session_affinity, false)
  t.ok(app.automatic_scaling.min_num_instances >= 2)
})

t.test('instances are added before they are full', async (t) => {
  const { MAX_CONNECTIONS } = app.env_variables
  t.ok(app.automatic_scaling.target_concurrent_requests <= 0.7 * Number(MAX_CONNECTIONS))
  t.ok(Number(MAX_CONNECTIONS) < 4_096 / 2, 'nginx on the instance has 4,096 sockets')
})

t.test('the drain ends before App Engine kills the process, and connections before App Engine closes them', async (t) => {
  const timeout = Number(/shutdown: \{ timeout: '(\d+)s' \}/.exec(server)![1])
  t.ok(timeout + 1 < GRACE)
  t.match(server, /requestTimeout: '60m'/)
})

t.test('the container runs Node itself, as a user without rights', async (t) => {
  const stage = lastStage(example)
  t.equal(app.runtime, 'custom')
  t.equal(stage.findLast(({ name }) => name === 'USER')!.value, 'node')
  t.equal(JSON.parse(stage.findLast(({ name }) => name === 'CMD')!.value)[0], 'node', 'SIGTERM reaches Node')
  const folder = stage.findLast(({ name }) => name === 'WORKDIR')!.value
  t.equal(app.env_variables.REDIS_CA_FILE, `${folder}/ca.pem`)
  t.ok(stage.some(({ name, value }) => name === 'COPY' && value.includes('ca.pem')))
})

t.test('every variable is one that the plugin or the server reads, and none is a secret', async (t) => {
  const sources = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'))
  const used = new Set([server, ...sources.map(file => read(`lib/${file}`))].join('\n').match(/\b[A-Z][A-Z0-9_]+\b/g))
  const names = Object.keys(app.env_variables)
  t.strictSame(names.filter(name => !used.has(name)), [])
  t.strictSame(names.filter(name => ['TOKEN_SECRET', 'REDIS_URL', 'REDIS_PASSWORD'].includes(name)), [])
})

t.test('the server asks for the same versions as the plugin is tested with', async (t) => {
  const { devDependencies, dependencies, peerDependencies, version } = JSON.parse(read('package.json'))
  const known = { ...peerDependencies, ...dependencies, ...devDependencies, 'fastify-cloud-run-websocket': `^${version}` }
  const asked = Object.entries(JSON.parse(read('example/app-engine/package.json')).dependencies)
  t.strictSame(asked.filter(([name, range]) => known[name] !== undefined && range !== known[name]), [])
})

t.test('the README gives the service account of app.yaml the roles that it needs', async (t) => {
  const commands = readPage('example/app-engine/README.md').blocks.map(({ code }) => code).join('\n')
  const [account] = app.service_account.split('@')
  t.match(commands, `iam service-accounts create ${account}`)
  t.match(commands, app.service_account)
  t.match(commands, `secrets create ${app.env_variables.TOKEN_SECRET_NAME} `)
  t.match(commands, `secrets add-iam-policy-binding ${app.env_variables.TOKEN_SECRET_NAME} `)
  const roles = new Set(Array.from(commands.matchAll(/roles\/[\w.]+/g), ([role]) => role))
  t.strictSame(Array.from(roles).toSorted(), [
    'roles/artifactregistry.reader', 'roles/logging.logWriter', 'roles/memorystore.dbConnectionUser', 'roles/secretmanager.secretAccessor',
    'roles/serviceusage.serviceUsageConsumer', 'roles/telemetry.metricsWriter'
  ])
})

t.test('the page about App Engine gives a reason for settings with the values that they have', async (t) => {
  const rows = readPage('docs/app-engine.md').lines.filter(({ text }) => /^\| `[\w.]+: /.test(text)).map(({ text }) => /`(.+?)`/.exec(text)![1]!)
  t.ok(rows.length > 5)
  const valueOf = (path: string) => path.split('.').reduce((value, name) => value?.[name], app)
  t.strictSame(rows.filter(row => `${valueOf(row.split(': ')[0]!)}` !== row.split(': ')[1]), [])
  const block = readPage('docs/app-engine.md').blocks.find(({ language }) => language === 'js')!.code.replaceAll('_', '')
  t.match(block, `maxConnections: ${app.env_variables.MAX_CONNECTIONS},`)
  t.match(block, `trustedProxies: ${app.env_variables.TRUSTED_PROXIES},`)
  t.match(block, /requestTimeout: '60m',.*\n.*\n.*timeout: '25s'/)
})

t.test('an instance: a secret from Secret Manager, the client\'s address, and the drain', async (t) => {
  const [redis, metadata, secrets] = await Promise.all([startRedis(t), startMetadataServer(t), startSecretManager(t)])
  // Google's tokens and a Redis with TLS are not here; the tests of lib/options and lib/backends/redis have them.
  const { REDIS_AUTH, REDIS_CA_FILE, ...env } = app.env_variables
  const { port, log, exited, terminate } = await startExample(t, example, {
    ...env,
    GAE_SERVICE: 'default',
    GAE_VERSION: '20261128t150000',
    GAE_INSTANCE: 'aef-default-20261128t150000-x1f2',
    GAE_MEMORY_MB: '2048',
    GOOGLE_CLOUD_PROJECT: 'my-project',
    REDISHOST: '127.0.0.1',
    REDISPORT: String(redis.port),
    NODE_OPTIONS: secrets.redirect,
    ...metadata.env
  })
  t.strictSame(secrets.asked, [['Bearer token-1', '/v1/projects/my-project/secrets/chat-token-secret/versions/latest:access']])
  const url = `ws://127.0.0.1:${port}`
  const token = await new SignJWT({}).setProtectedHeader({ alg: 'HS256' }).setSubject('ada').setExpirationTime('1h').sign(Buffer.from(secrets.value))
  await sdkClient(t, url, 'json', { token }).connected()

  const headers = { 'x-forwarded-for': '203.0.113.66, 198.51.100.7, 34.117.0.1' }
  const ada = await connect(t, `${url}/ws`, { headers })
  await until(() => log.some(entry => entry.httpRequest?.status === 101 && entry.httpRequest.remoteIp === '198.51.100.7'), 'the address is the client\'s')
  ada.send('hello')
  t.match(JSON.parse(String(await ada.next())), { text: 'hello', time: Number })

  terminate()
  t.match(JSON.parse(String(await ada.next())), { type: 'shutdown', reconnect: true })
  t.equal((await ada.closed).code, 1001)
  t.strictSame(await exited, [0, null])
  t.match(log.find(({ event }) => event === 'drain.started'), { connections: 2, timeout: 25_000 })
})

t.test('a server that may not read its secret says which role is missing', async (t) => {
  const [metadata, secrets] = await Promise.all([startMetadataServer(t), startSecretManager(t, 403)])
  const env = { TOKEN_SECRET_NAME: 'chat-token-secret', GOOGLE_CLOUD_PROJECT: 'my-project', NODE_OPTIONS: secrets.redirect, ...metadata.env }
  const message = /ended with 1:[^]*Secret Manager answers 403 for chat-token-secret; .+ needs roles\/secretmanager\.secretAccessor on it/
  await t.rejects(startExample(t, example, env), { message })
})

/** Secret Manager on loopback. `redirect`: options of Node with which a program finds it there. */
async function startSecretManager (t: Test, status = 200) {
  const value = secretOf('of the tests')
  const asked: string[][] = []
  const server = createServer((request, response) => {
    asked.push([request.headers.authorization!, request.url!])
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(status === 200 ? { payload: { data: Buffer.from(value).toString('base64') } } : { error: {} }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const here = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const code = `const { fetch } = globalThis
    globalThis.fetch = (url, init) => fetch(String(url).replace('https://secretmanager.googleapis.com', '${here}'), init)`
  return { value, asked, redirect: `--import=data:text/javascript,${encodeURIComponent(code)}` }
}
