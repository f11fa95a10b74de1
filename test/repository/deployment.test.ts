import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import { buildPackage } from '../helpers/built-package.ts'
import { freePort } from '../helpers/free-port.ts'
import { fakeGcloud } from '../helpers/gcloud.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { findProgram } from '../helpers/programs.js'
import { command, startRedis } from '../helpers/redis.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const root = resolve(import.meta.dirname, '../..')
const example = join(root, 'example/cloud-run')
const script = join(example, 'deploy.sh')
const demo = ['--project', 'demo', '--region', 'europe-west1']
const read = (...path: string[]) => readFileSync(join(root, ...path), 'utf8')

/** The commands of gcloud with which deploy.sh only reads. */
const READS = [
  'config get-value', 'projects describe', 'projects get-iam-policy', 'services list',
  'secrets describe', 'secrets get-iam-policy', 'secrets versions access', 'redis instances describe', 'redis instances get-auth-string',
  'compute networks subnets describe', 'iam service-accounts describe', 'run services describe', 'run deploy --help'
]

/** The calls that change something. */
function changes (calls: string[][]): string[] {
  return calls.filter(call => !READS.some(read => `${call.join(' ')} `.startsWith(`${read} `)))
    .map(call => call.filter(word => word !== '--project=demo').join(' '))
}

const APIS = [
  'artifactregistry', 'cloudbuild', 'compute', 'iam', 'logging', 'monitoring', 'redis', 'run', 'secretmanager', 'telemetry'
].map(api => `${api}.googleapis.com`)

/** The flags of `gcloud run deploy`. */
function flagsOf (calls: string[][]): string[] {
  const call = calls.find(([first, second, third]) => first === 'run' && second === 'deploy' && third === 'chat')
  return call?.slice(3) ?? []
}

t.setTimeout(120_000)

// The first run; several tests look at what it does.
const first = await fakeGcloud(t)
const firstRun = await first.run(script, demo)
const firstCalls = first.calls()

t.test('the first run makes everything, with no more rights than it takes, and deploys', async (t) => {
  t.equal(firstRun.code, 0, firstRun.stderr)
  t.match(firstRun.stdout, /^Deployed: https:\/\/chat\.example$/m)
  const account = 'serviceAccount:chat-run@demo.iam.gserviceaccount.com'
  t.strictSame(changes(firstCalls).slice(0, -1), [
    `services enable ${APIS.join(' ')}`,
    'iam service-accounts create chat-run --display-name=chat: runs the service',
    'iam service-accounts create chat-build --display-name=chat: builds the image',
    'redis instances create chat-redis --region=europe-west1 --network=default --tier=basic --size=1 ' +
      '--redis-version=redis_7_2 --enable-auth',
    'secrets create chat-redis-url --replication-policy=automatic --data-file=-',
    'secrets create chat-token-secret --replication-policy=automatic --data-file=-',
    'projects add-iam-policy-binding demo --member=serviceAccount:chat-build@demo.iam.gserviceaccount.com ' +
      '--role=roles/run.builder --condition=None',
    `projects add-iam-policy-binding demo --member=${account} --role=roles/telemetry.writer --condition=None`,
    `projects add-iam-policy-binding demo --member=${account} --role=roles/serviceusage.serviceUsageConsumer --condition=None`,
    `secrets add-iam-policy-binding chat-redis-url --member=${account} --role=roles/secretmanager.secretAccessor --condition=None`,
    `secrets add-iam-policy-binding chat-token-secret --member=${account} --role=roles/secretmanager.secretAccessor --condition=None`
  ])
  t.ok(firstCalls.every(call => call.includes('--project=demo')), 'no command depends on what gcloud is set to')
})

t.test('the service gets every setting that WebSockets need', async (t) => {
  t.strictSame(flagsOf(firstCalls), [
    '--region=europe-west1', `--source=${example}`, '--allow-unauthenticated',
    '--service-account=chat-run@demo.iam.gserviceaccount.com',
    '--build-service-account=projects/demo/serviceAccounts/chat-build@demo.iam.gserviceaccount.com',
    '--timeout=3600', '--concurrency=1000', '--min-instances=1', '--max-instances=100',
    '--cpu=1', '--memory=1Gi', '--no-cpu-throttling', '--cpu-boost', '--execution-environment=gen2',
    '--port=8080', '--no-use-http2', '--session-affinity',
    '--network=default', '--subnet=default', '--vpc-egress=private-ranges-only',
    '--update-env-vars=CLOUD_RUN_TIMEOUT_SECONDS=3600,CLOUD_RUN_CONCURRENCY=1000,CLOUD_RUN_MAX_INSTANCES=100',
    '--update-secrets=REDIS_URL=chat-redis-url:latest,TOKEN_SECRET=chat-token-secret:latest',
    '--startup-probe=httpGet.path=/ready,periodSeconds=1,timeoutSeconds=1,failureThreshold=180',
    '--liveness-probe=httpGet.path=/health,periodSeconds=10,timeoutSeconds=5,failureThreshold=6',
    '--readiness-probe=httpGet.path=/ready,periodSeconds=5,timeoutSeconds=3,failureThreshold=2',
    '--project=demo'
  ])
})

t.test('the secrets are in Secret Manager, and in no command', async (t) => {
  const token = first.get('secrets chat-token-secret')
  t.equal(first.get('secrets chat-redis-url'), 'redis://:9f2c1d6e-0a5b@10.0.0.3:6379')
  t.equal(Buffer.from(token, 'base64').length, 32)
  const shown = firstRun.stdout + firstRun.stderr + firstCalls.join('\n')
  t.strictSame([token, '9f2c1d6e-0a5b'].filter(secret => shown.includes(secret)), [])
})

t.test('the second run makes nothing twice, and deploys again', async (t) => {
  const gcloud = await fakeGcloud(t)
  const run = async () => {
    const before = gcloud.calls().length
    const { code, stderr } = await gcloud.run(script, demo)
    return { code, stderr, made: changes(gcloud.calls().slice(before)).map(call => call.split(' ', 4).join(' ')) }
  }
  gcloud.set('denied', 'secrets create')
  const stopped = await run()
  t.match(stopped, { code: 1, stderr: /PERMISSION_DENIED: not for you[^]*run it again to go on/ })
  const lastMade = ['redis instances create chat-redis', 'secrets create chat-redis-url --replication-policy=automatic']
  t.strictSame(stopped.made.slice(-2), lastMade)

  gcloud.set('denied', 'nothing')
  const goesOn = await run()
  t.equal(goesOn.code, 0, goesOn.stderr)
  t.equal(goesOn.made[0], 'secrets create chat-redis-url --replication-policy=automatic', 'what was made before it stopped is there')

  const token = gcloud.get('secrets chat-token-secret')
  t.strictSame(await run(), { code: 0, stderr: '', made: ['run deploy chat --region=europe-west1'] })
  t.equal(gcloud.get('secrets chat-token-secret'), token, 'tokens stay valid')

  gcloud.set('address', '10.0.0.9:6379')
  gcloud.set('auth', '')
  const made = ['secrets versions add chat-redis-url', 'run deploy chat --region=europe-west1']
  t.strictSame(await run(), { code: 0, stderr: '', made }, 'a Redis that was made again has another URL')
  t.equal(gcloud.get('secrets chat-redis-url'), 'redis://10.0.0.9:6379', 'without AUTH there is none in it')
})

t.test('a dry run prints the very commands of the first run, and calls nothing', async (t) => {
  const gcloud = await fakeGcloud(t)
  const dry = await gcloud.run(script, [...demo, '--dry-run'], { installed: false })
  t.equal(dry.code, 0, dry.stderr)
  t.strictSame(gcloud.calls(), [])
  t.equal(dry.stdout + 'Deployed: https://chat.example\n', firstRun.stdout)
  // As a shell reads them, they are what was called.
  await gcloud.run('-c', [dry.stdout])
  t.strictSame(gcloud.calls(), firstCalls)
})

t.test('options change what is made, and an older gcloud deploys without the readiness probe', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.set('compute networks subnets run', '')
  gcloud.set('project', 'demo')
  gcloud.set('help', '--liveness-probe')
  const { code, stderr } = await gcloud.run(script, [
    '--service=shop', '--network', 'vpc', '--subnet=run', '--min-instances', '0', '--max-instances=5', '--cpu', '2', '--memory', '2Gi',
    '--concurrency', '500', '--timeout=300', '--redis-tier', 'standard', '--redis-size', '5', '--role', 'roles/logging.logWriter',
    '--private'
  ])
  t.equal(code, 0, stderr)
  const calls = changes(gcloud.calls())
  const expected = [
    'redis instances create shop-redis --region=us-central1 --network=vpc --tier=standard --size=5 --redis-version=redis_7_2 --enable-auth',
    'projects add-iam-policy-binding demo --member=serviceAccount:shop-run@demo.iam.gserviceaccount.com ' +
      '--role=roles/logging.logWriter --condition=None'
  ]
  t.strictSame(expected.filter(call => !calls.includes(call)), [])
  const deploy = calls.at(-1)!.split(' ')
  t.equal(deploy[2], 'shop')
  const flags = [
    '--network=vpc', '--subnet=run', '--min-instances=0', '--max-instances=5', '--cpu=2', '--memory=2Gi', '--concurrency=500',
    '--timeout=300', '--no-allow-unauthenticated',
    '--update-env-vars=CLOUD_RUN_TIMEOUT_SECONDS=300,CLOUD_RUN_CONCURRENCY=500,CLOUD_RUN_MAX_INSTANCES=5'
  ]
  t.strictSame(flags.filter(flag => !deploy.includes(flag)), [])
  t.match(stderr, /knows no --readiness-probe.*gcloud components update/)
  t.notOk(deploy.some(flag => flag.startsWith('--readiness-probe')))
})

t.test('deploy.sh says what is missing and what to do', async (t) => {
  const gcloud = await fakeGcloud(t)
  const withoutGcloud = await gcloud.run(script, demo, { installed: false })
  t.match(withoutGcloud, { code: 1, stdout: '', stderr: 'deploy.sh: gcloud is missing; install it as in https://' })
  const withoutProject = await gcloud.run(script, [])
  const useProject = 'deploy.sh: no project; use --project ID, or: gcloud config set project ID\n'
  t.match(withoutProject, { code: 1, stdout: '', stderr: useProject })
  const otherProject = await gcloud.run(script, [], { env: { GOOGLE_CLOUD_PROJECT: 'other' } })
  t.match(otherProject, { code: 1, stderr: 'deploy.sh: there is no project other, or no access to it' })
  const withoutSubnet = await gcloud.run(script, [...demo, '--subnet', 'gone'])
  const useSubnet = 'deploy.sh: there is no subnet gone in europe-west1; use --network and --subnet, or: gcloud compute networks create'
  t.match(withoutSubnet, { code: 1, stderr: useSubnet })
  gcloud.set('denied', 'redis instances describe')
  const denied = await gcloud.run(script, demo)
  t.match(denied, { code: 1, stderr: /PERMISSION_DENIED: not for you/ }, 'a Redis that gcloud may not read can exist all the same')
  t.notOk(changes(gcloud.calls()).some(call => call.startsWith('redis')))
})

t.test('a wrong option stops before anything is asked or made', async (t) => {
  const gcloud = await fakeGcloud(t)
  const wrong: Array<[string[], string]> = [
    [['--regoin', 'x'], 'unknown option --regoin; --help lists those there are'],
    [['--role'], '--role needs a value'],
    [['--timeout', '3601'], '--timeout must be a whole number from 1 to 3600, not 3601'],
    [['--concurrency=many'], '--concurrency must be a whole number from 1 to 1000, not many'],
    [['--min-instances', '3', '--max-instances', '2'], '--min-instances (3) must not be more than --max-instances (2)'],
    [['--redis-tier', 'gold'], '--redis-tier must be basic or standard, not gold'],
    [['--service', 'Chat'], '--service must be 2 to 24 small letters, digits and -, not Chat'],
    [['--source', '/nowhere'], 'there is no Dockerfile in /nowhere']
  ]
  const runs = await Promise.all(wrong.map(([args]) => gcloud.run(script, args)))
  t.strictSame(runs, wrong.map(([, message]) => ({ code: 1, stdout: '', stderr: `deploy.sh: ${message}\n` })))
  t.strictSame(gcloud.calls(), [])
  const { code, stdout } = await gcloud.run(script, ['--help'])
  t.equal(code, 0)
  const source = read('example/cloud-run/deploy.sh')
  const patterns = Array.from(source.matchAll(/^ {4}(--[^=\n]+?)\)/gm), ([, names = '']) => names.split('|'))
  const options = patterns.flat().filter(name => name.startsWith('--') && name !== '--*')
  t.ok(options.length > 15)
  t.strictSame(options.filter(option => !new RegExp(`^  ${option} `, 'm').test(stdout)), [], '--help explains every option')
})

t.test('the page about deploying gives a reason for every setting, and names none that is not made', async (t) => {
  const section = read('docs/deploying.md')
  const nameOf = (flag: string) => flag.split('=')[0]
  const cells = section.split('\n').filter(line => line.startsWith('| `--')).map(line => line.split('|')[1]!)
  const inTable = cells.flatMap(cell => Array.from(cell.matchAll(/--[a-z0-9-]+/g), ([flag]) => flag))
  // Users choose these as they like; the plugin does not depend on them.
  const chosen = ['--region', '--source', '--project', '--allow-unauthenticated', '--build-service-account', '--cpu', '--memory', '--port']
  t.strictSame(inTable.toSorted(), flagsOf(firstCalls).map(nameOf).filter(flag => !chosen.includes(flag!)).toSorted())
  const [, command = ''] = /```sh\n(.+deploy\.sh.*)\n```/.exec(section) ?? []
  const { code, stderr } = await first.run('-c', [`cd '${root}' && bash ${command} --dry-run`])
  t.equal(code, 0, stderr)
})

t.test('shellcheck finds nothing, where it is installed', { skip: findProgram('shellcheck') === undefined }, async (t) => {
  await t.resolves(promisify(execFile)('shellcheck', [script]))
})

/** An instruction of the Dockerfile's last stage, which is what runs. */
interface Instruction { name: string, value: string }

function lastStage (): Instruction[] {
  const lines = read('example/cloud-run/Dockerfile').replaceAll('\\\n', ' ').split('\n').filter(line => /^[A-Z]/.test(line))
  const instructions = lines.map(line => ({ name: line.slice(0, line.indexOf(' ')), value: line.slice(line.indexOf(' ') + 1).trim() }))
  return instructions.slice(instructions.findLastIndex(({ name }) => name === 'FROM'))
}

const valueOf = (name: string) => lastStage().findLast(instruction => instruction.name === name)?.value ?? ''

t.test('the container runs Node itself, as a user without rights, with production dependencies alone', async (t) => {
  t.match(valueOf('FROM'), /^node:\d+-slim$/)
  t.equal(valueOf('USER'), 'node')
  t.equal(JSON.parse(valueOf('CMD'))[0], 'node', 'neither a shell nor npm, which do not pass SIGTERM on')
  t.match(valueOf('ENV'), /\bNODE_ENV=production\b/)
  t.notOk(lastStage().some(({ name }) => name === 'RUN' || name === 'ENTRYPOINT'), 'npm is not used where it runs')
  const installs = read('example/cloud-run/Dockerfile').match(/npm (?:ci|install)[^;]*/g)!
  t.equal(installs.length, 2)
  t.strictSame(installs.filter(install => !/--omit=dev\b/.test(install)), [])
  t.match(read('example/cloud-run/.dockerignore').split('\n'), ['node_modules'])
})

t.test('the example asks for the same versions as the plugin is tested with', async (t) => {
  const { devDependencies, dependencies, peerDependencies, version } = JSON.parse(read('package.json'))
  const known = { ...peerDependencies, ...dependencies, ...devDependencies, 'fastify-cloud-run-websocket': `^${version}` }
  const asked = Object.entries(JSON.parse(read('example/cloud-run/package.json')).dependencies)
  t.strictSame(asked.filter(([name, range]) => known[name] !== undefined && range !== known[name]), [])
})

t.test('the start command of the container, on Cloud Run: probes, a client, and SIGTERM', async (t) => {
  const app = await container(t)
  const [redis, metadata, collector] = await Promise.all([startRedis(t), startMetadataServer(t), startCollector(t)])
  await command(redis.port, ['CONFIG', 'SET', 'requirepass', 'auth-string'])
  const port = await freePort()
  const [program, ...args] = JSON.parse(valueOf('CMD'))
  const child = spawn(program, args, {
    cwd: app,
    stdio: ['ignore', 'pipe', 'inherit'],
    // As deploy.sh sets it; REDIS_URL has the form of its secret.
    env: {
      PATH: [dirname(process.execPath), process.env.PATH].join(delimiter),
      NODE_ENV: 'production',
      PORT: String(port),
      K_SERVICE: 'chat',
      K_REVISION: 'chat-00001-abc',
      K_CONFIGURATION: 'chat',
      CLOUD_RUN_TIMEOUT_SECONDS: '3600',
      CLOUD_RUN_CONCURRENCY: '1000',
      REDIS_URL: `redis://:auth-string@127.0.0.1:${redis.port}`,
      TOKEN_SECRET: secretOf('of the tests'),
      OTEL_EXPORTER_OTLP_ENDPOINT: collector,
      ...metadata.env
    }
  })
  t.teardown(() => child.kill('SIGKILL'))
  child.stdout.resume()
  const exited = once(child, 'exit')
  const url = `http://127.0.0.1:${port}`
  const ready = until(async () => (await fetch(`${url}/ready`)).status === 200, 'the startup probe gets 200', 60_000)
  await Promise.race([ready, exited.then(([code]) => { throw new Error(`the server ended with ${code}`) })])
  t.equal((await fetch(`${url}/health`)).status, 200)
  const page = await fetch(url)
  t.match(page.headers.get('content-security-policy'), /^default-src 'self';/)
  const html = await page.text()
  t.match(html, /<title>Chat<\/title>/)
  t.notMatch(html, /<style|<script(?! type="module" src="chat.js"><)|\son\w+=|\sstyle=/, 'nothing that such a policy forbids')
  for (const file of ['style.css', 'chat.js']) t.equal((await fetch(`${url}/${file}`)).status, 200)

  const ada = await connect(t, `ws://127.0.0.1:${port}/ws`)
  ada.send(JSON.stringify({ name: 'Ada', text: 'first' }))
  t.match(JSON.parse(String(await ada.next())), { name: 'Ada', text: 'first', time: Number })
  const grace = await connect(t, `ws://127.0.0.1:${port}/ws`)
  t.match(JSON.parse(String(await grace.next())), { text: 'first' }, 'a later client sees what was said')
  grace.send(JSON.stringify({ name: 'Grace', text: 'second' }))
  for (const client of [ada, grace]) t.match(JSON.parse(String(await client.next())), { name: 'Grace', text: 'second' })
  const mallory = await connect(t, `ws://127.0.0.1:${port}/ws`)
  mallory.send('{"name":"","text":7}')
  t.equal((await mallory.closed).code, 4000)

  const asked = Date.now()
  child.kill('SIGTERM')
  for (const client of [ada, grace]) {
    t.match(JSON.parse(String(await client.next())), { type: 'shutdown', reconnect: true })
    t.equal((await client.closed).code, 1001)
  }
  t.strictSame(await exited, [0, null])
  t.ok(Date.now() - asked < 10_000, 'before Cloud Run would kill it')
})

/** The folder of the Dockerfile's last stage. node_modules holds only dependencies of the example's package.json. */
async function container (t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'container-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [app, built] = [join(folder, 'app'), join(folder, 'fastify-cloud-run-websocket')]
  const modules = join(app, 'node_modules')
  await mkdir(modules, { recursive: true })
  await buildPackage(built)
  for (const { name, value } of lastStage()) {
    if (name !== 'COPY' || value.startsWith('--from=dependencies /app/node_modules ')) continue
    const words = value.split(' ')
    const target = words.pop()!
    for (const source of words) {
      await cp(join(example, source), join(app, target, target.endsWith('/') ? basename(source) : ''), { recursive: true })
    }
  }
  for (const name of Object.keys(JSON.parse(read('example/cloud-run/package.json')).dependencies)) {
    const source = name === 'fastify-cloud-run-websocket' ? built : join(root, 'node_modules', name)
    await mkdir(dirname(join(modules, name)), { recursive: true })
    if (existsSync(source)) await symlink(source, join(modules, name))
  }
  return app
}

/** Accepts what OpenTelemetry sends, so that nothing goes to Google. Returns its URL. */
async function startCollector (t: Test): Promise<string> {
  const server = createServer((request, response) => request.resume().once('end', () => response.end()))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
