import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { lastStage, unpackContainer } from '../helpers/container.ts'
import { startCollector } from '../helpers/example-server.ts'
import { freePort } from '../helpers/free-port.ts'
import { fakeGcloud } from '../helpers/gcloud.ts'
import type { Gcloud } from '../helpers/gcloud.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { findProgram } from '../helpers/programs.js'
import { command, startRedis } from '../helpers/redis.ts'
import { secretOf } from '../helpers/secrets.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const root = resolve(import.meta.dirname, '../..')
const example = join(root, 'example/cloud-run')
const script = join(example, 'deploy.sh')
const trafficScript = join(example, 'traffic.sh')
const demo = ['--project', 'demo', '--region', 'europe-west1']
const read = (...path: string[]) => readFileSync(join(root, ...path), 'utf8')

/** The commands of gcloud with which the scripts only read. */
const READS = [
  'version', 'config get-value', 'projects describe', 'projects get-iam-policy', 'services list', 'billing projects describe', 'billing budgets list',
  'secrets describe', 'secrets get-iam-policy', 'secrets versions access', 'secrets versions describe',
  'redis instances describe', 'redis instances get-auth-string', 'memorystore instances describe', 'memorystore instances get-certificate-authority',
  'network-connectivity service-connection-policies list', 'compute networks subnets describe', 'iam service-accounts describe',
  'run services describe', 'run deploy --help'
]

/** The calls that change something. */
function changes (calls: string[][]): string[] {
  return calls.filter(call => !READS.some(read => `${call.join(' ')} `.startsWith(`${read} `)))
    .map(call => call.filter(word => word !== '--project=demo').join(' '))
}

/** What is made apart from APIs that are turned on, which costs nothing. */
const made = (gcloud: Gcloud) => changes(gcloud.calls()).filter(call => !call.startsWith('services enable'))

const APIS = [
  'artifactregistry', 'cloudbuild', 'cloudresourcemanager', 'compute', 'iam', 'monitoring', 'run', 'secretmanager', 'serviceusage', 'telemetry',
  'memorystore', 'networkconnectivity', 'serviceconsumermanagement'
].map(api => `${api}.googleapis.com`)

/** The flags of the last `gcloud run deploy`. */
function flagsOf (calls: string[][]): string[] {
  const call = calls.findLast(([first, second, third]) => first === 'run' && second === 'deploy' && third !== '--help')
  return call?.slice(3) ?? []
}

/** A package as npm pack makes it, with nothing in it. */
async function pack (folder: string, name: string): Promise<string> {
  await mkdir(join(folder, 'package'), { recursive: true })
  await writeFile(join(folder, 'package/package.json'), JSON.stringify({ name, version: '0.1.0' }, undefined, 2))
  const file = join(folder, `${name}.tgz`)
  await promisify(execFile)('tar', ['-czf', file, '-C', folder, 'package'])
  return file
}

/** What a list in a flag such as --update-env-vars has. */
const listOf = (calls: string[][], flag: string) => flagsOf(calls).find(word => word.startsWith(`--${flag}=`))?.slice(flag.length + 3).split(',') ?? []

const LIMIT = 'deploy.sh: one Redis serves about 72 full instances of a chat at 60% of a core, and 109 at 100%; ' +
  '--max-instances is 100. Use --cluster-mode for more\n'

t.setTimeout(120_000)

// The first run; several tests look at what it does.
const first = await fakeGcloud(t)
const firstRun = await first.run(script, demo)
const firstCalls = first.calls()
const firstMade = first.made()

t.test('the first run makes everything, with no more rights than it takes, and deploys', async (t) => {
  t.strictSame([firstRun.code, firstRun.stderr], [0, LIMIT])
  t.match(firstRun.stdout, /^Deployed: https:\/\/chat\.example$/m)
  const account = 'serviceAccount:chat-run@demo.iam.gserviceaccount.com'
  t.strictSame(changes(firstCalls).slice(0, -1), [
    `services enable ${APIS.join(' ')}`,
    'iam service-accounts create chat-run --display-name=chat: runs the service',
    'iam service-accounts create chat-build --display-name=chat: builds the image',
    'projects add-iam-policy-binding demo --member=serviceAccount:chat-build@demo.iam.gserviceaccount.com ' +
      '--role=roles/run.builder --condition=None',
    `projects add-iam-policy-binding demo --member=${account} --role=roles/telemetry.metricsWriter --condition=None`,
    `projects add-iam-policy-binding demo --member=${account} --role=roles/serviceusage.serviceUsageConsumer --condition=None`,
    `projects add-iam-policy-binding demo --member=${account} --role=roles/memorystore.dbConnectionUser --condition=None`,
    'network-connectivity service-connection-policies create memorystore-default --region=europe-west1 --network=default ' +
      '--service-class=gcp-memorystore --subnets=default',
    'memorystore instances create chat-valkey --location=europe-west1 --mode=cluster-disabled --shard-count=1 --replica-count=1 ' +
      '--node-type=standard-small --engine-version=VALKEY_8_0 --authorization-mode=iam-auth ' +
      '--transit-encryption-mode=server-authentication --endpoints=[{"connections":[{"pscAutoConnection":' +
      '{"network":"projects/demo/global/networks/default","projectId":"demo"}}]}]',
    'secrets create chat-redis-ca-europe-west1 --replication-policy=automatic --data-file=-',
    'secrets create chat-token-secret --replication-policy=automatic --data-file=-',
    `secrets add-iam-policy-binding chat-redis-ca-europe-west1 --member=${account} --role=roles/secretmanager.secretAccessor --condition=None`,
    `secrets add-iam-policy-binding chat-token-secret --member=${account} --role=roles/secretmanager.secretAccessor --condition=None`
  ])
  t.ok(firstCalls.every(call => call.includes('--project=demo')), 'no command depends on what gcloud is set to')
})

t.test('the service gets every setting that WebSockets need', async (t) => {
  t.strictSame(flagsOf(firstCalls), [
    '--region=europe-west1', `--source=${example}`,
    '--service-account=chat-run@demo.iam.gserviceaccount.com',
    '--build-service-account=projects/demo/serviceAccounts/chat-build@demo.iam.gserviceaccount.com',
    '--timeout=3600', '--concurrency=1000', '--min=1', '--max-instances=100',
    '--cpu=1', '--memory=1Gi', '--no-cpu-throttling', '--cpu-boost', '--execution-environment=gen2',
    '--port=8080', '--no-use-http2', '--no-session-affinity',
    '--network=default', '--subnet=default', '--vpc-egress=private-ranges-only',
    '--update-env-vars=CLOUD_RUN_TIMEOUT_SECONDS=3600,CLOUD_RUN_CONCURRENCY=1000,CLOUD_RUN_MAX_INSTANCES=100,' +
      'REDISHOST=10.0.0.3,REDISPORT=6379,REDIS_CA_FILE=/secrets/redis-ca/ca.pem,REDIS_AUTH=iam',
    '--update-secrets=/secrets/redis-ca/ca.pem=chat-redis-ca-europe-west1:latest,TOKEN_SECRET=chat-token-secret:1',
    '--update-labels=redis=valkey,access=public',
    '--startup-probe=httpGet.path=/ready,periodSeconds=1,timeoutSeconds=1,failureThreshold=180',
    '--liveness-probe=httpGet.path=/health,periodSeconds=10,timeoutSeconds=5,failureThreshold=6',
    '--readiness-probe=httpGet.path=/ready,periodSeconds=5,timeoutSeconds=3,failureThreshold=2,successThreshold=1',
    '--scaling-concurrency-target=0.9', '--max=100', '--no-invoker-iam-check',
    '--project=demo'
  ])
})

t.test('the secrets are in Secret Manager, and in no command', async (t) => {
  const gcloud = await fakeGcloud(t)
  const { stdout, stderr, code } = await gcloud.run(script, [...demo, '--redis', 'redis'])
  t.equal(code, 0, stderr)
  const token = gcloud.get('secrets chat-token-secret')
  t.equal(gcloud.get('secrets chat-redis-password-europe-west1'), '9f2c1d6e-0a5b')
  t.equal(Buffer.from(token, 'base64').length, 32)
  const shown = stdout + stderr + gcloud.calls().join('\n')
  t.strictSame([token, '9f2c1d6e-0a5b'].filter(secret => shown.includes(secret)), [])
})

t.test('the second run makes nothing twice, and deploys again', async (t) => {
  const gcloud = await fakeGcloud(t)
  const run = async () => {
    const before = gcloud.calls().length
    const { code, stderr } = await gcloud.run(script, demo)
    return { code, stderr, made: changes(gcloud.calls().slice(before)).map(call => call.split(' ', 4).join(' ')) }
  }
  await run()
  const redeployed = ['run deploy chat --region=europe-west1', 'run services update-traffic chat']
  const token = gcloud.get('secrets chat-token-secret')
  t.strictSame(await run(), { code: 0, stderr: LIMIT, made: redeployed })
  t.equal(gcloud.get('secrets chat-token-secret'), token, 'tokens stay valid')
  t.ok(changes(gcloud.calls()).at(-1)?.endsWith(' --update-tags=previous=chat-00001'), 'traffic.sh --rollback knows what there was')
  t.strictSame(listOf(gcloud.calls(), 'remove-env-vars'), ['REDIS_PASSWORD_FILE', 'REDIS_CLUSTER'])
  t.strictSame(listOf(gcloud.calls(), 'remove-secrets'), ['REDIS_URL', '/secrets/redis-password/password'])

  gcloud.set('ca', 'another certificate')
  const added = ['secrets versions add chat-redis-ca-europe-west1', ...redeployed]
  t.strictSame(await run(), { code: 0, stderr: LIMIT, made: added }, 'new certificates of Google are a new version')
  t.equal(gcloud.get('secrets chat-redis-ca-europe-west1'), 'another certificate')
})

t.test('a second region has the certificates and the password of its own Redis', async (t) => {
  for (const [redis, kept] of [['valkey', 'ca'], ['redis', 'password']]) {
    const gcloud = await fakeGcloud(t)
    const run = (region: string) => gcloud.run(script, ['--project', 'demo', '--region', region, '--redis', redis!])
    t.equal((await run('europe-west1')).code, 0)
    const before = gcloud.get(`secrets chat-redis-${kept}-europe-west1`)
    t.ok(before.length > 0)
    gcloud.set('ca', 'certificate of the other region')
    gcloud.set('auth', 'password of the other region')
    t.equal((await run('us-central1')).code, 0)
    t.equal(gcloud.get(`secrets chat-redis-${kept}-europe-west1`), before, 'the first region keeps its own')
    t.match(gcloud.get(`secrets chat-redis-${kept}-us-central1`), 'of the other region')
    t.match(listOf(gcloud.calls(), 'update-secrets')[0], `chat-redis-${kept}-us-central1:latest`)
    t.ok(listOf(gcloud.calls(), 'update-secrets').includes('TOKEN_SECRET=chat-token-secret:1'), 'tokens are valid in both')
  }
})

for (const redis of ['valkey', 'redis']) {
  t.test(`a run that stops at any step can be run again: ${redis}`, async (t) => {
    const args = [...demo, '--redis', redis, '--budget', '500']
    const whole = await fakeGcloud(t)
    t.equal((await whole.run(script, args)).code, 0)
    const steps = changes(whole.calls())
    t.ok(steps.length > 12)
    for (const step of steps) {
      const gcloud = await fakeGcloud(t)
      // Up to the member, which tells two grants of one role apart, or the first flag.
      gcloud.set('denied', step.replace(/(--condition| --display| --replication).*/, '').trimEnd())
      const stopped = await gcloud.run(script, args)
      t.match(stopped, { code: 1, stderr: /PERMISSION_DENIED: not for you[^]*Run it again to continue/ }, step)
      gcloud.forget('denied')
      const again = await gcloud.run(script, args)
      t.equal(again.code, 0, again.stderr)
      t.strictSame(gcloud.made(), whole.made(), `as if it had not stopped at: ${step}`)
    }
  })
}

t.test('a run waits for a Redis that is still being created, and accepts no empty address', async (t) => {
  for (const [redis, kind] of [['valkey', 'memorystore'], ['redis', 'redis']]) {
    const gcloud = await fakeGcloud(t)
    const args = [...demo, '--redis', redis!]
    gcloud.set('denied', 'secrets create')
    await gcloud.run(script, args)
    gcloud.forget('denied')
    // Its settings are looked at first; then it is asked until it is there.
    gcloud.set('creating', '4')
    const waited = await gcloud.run(script, args)
    t.equal(waited.code, 0, waited.stderr)
    t.match(waited.stderr, `waiting for chat-${redis}, which is being created`)
    t.equal(gcloud.get('slept').split('\n').length - 1, 3)
    t.ok(listOf(gcloud.calls(), 'update-env-vars').includes('REDISHOST=10.0.0.3'))

    gcloud.set('creating', '200')
    t.match(await gcloud.run(script, args), { code: 1, stderr: /is still being created after half an hour/ })
    gcloud.set('creating', '0')
    gcloud.set(`${kind} instances chat-${redis}`, redis === 'valkey' ? 'ACTIVE|CLUSTER_DISABLED|IAM_AUTH|SERVER_AUTHENTICATION|1|1|STANDARD_SMALL|' : 'READY|||DISABLED|True|BASIC|1|default')
    gcloud.set('endpoints', '')
    const before = made(gcloud).length
    t.match(await gcloud.run(script, args), { code: 1, stderr: `chat-${redis} has no address` })
    t.equal(made(gcloud).length, before, 'no secret and no revision with half an address')
    gcloud.set(`${kind} instances chat-${redis}`, 'DELETING|||||||')
    t.match(await gcloud.run(script, args), { code: 1, stderr: `chat-${redis} is being deleted` })
  }
})

t.test('a secret that was left without a version gets one', async (t) => {
  for (const secret of ['chat-redis-ca-europe-west1', 'chat-token-secret']) {
    const gcloud = await fakeGcloud(t)
    gcloud.set('half', secret)
    t.match(await gcloud.run(script, demo), { code: 1, stderr: /the network is gone/ })
    t.equal(gcloud.get(`secrets ${secret}`), '')
    const again = await gcloud.run(script, demo)
    t.equal(again.code, 0, again.stderr)
    t.ok(gcloud.get(`secrets ${secret}`).length > 40)
    t.strictSame(gcloud.made(), firstMade)
  }
})

t.test('what is refused for a role that is new is tried once more', async (t) => {
  for (const [step, denial] of [
    ['run deploy chat', 'PERMISSION_DENIED: build account'],
    ['run deploy chat', 'Permission denied on secret: chat-redis-ca-europe-west1'],
    ['projects add-iam-policy-binding', 'INVALID_ARGUMENT: Service account chat-build does not exist.']
  ]) {
    const gcloud = await fakeGcloud(t)
    gcloud.set('denied', step!)
    gcloud.set('denials', '1')
    gcloud.set('denial', denial!)
    const { code, stderr } = await gcloud.run(script, demo)
    t.equal(code, 0, stderr)
    t.match(stderr, denial)
    t.match(stderr, /trying again in two minutes/)
    t.equal(gcloud.get('slept'), '120\n')
  }
  const gcloud = await fakeGcloud(t)
  gcloud.set('denied', 'run deploy chat')
  gcloud.set('denial', 'Build failed; npm error')
  t.match(await gcloud.run(script, demo), { code: 1, stderr: /npm error/ })
  t.equal(gcloud.get('slept'), '', 'what no time can mend is not tried again')
})

t.test('a role on a condition does not count as granted', async (t) => {
  const policies = firstCalls.filter(call => call.includes('get-iam-policy'))
  t.ok(policies.length > 4)
  t.ok(policies.every(call => call.includes('--filter=NOT bindings.condition:*')))
})

t.test('a dry run prints the very commands of the first run, and calls nothing', async (t) => {
  const gcloud = await fakeGcloud(t)
  const dry = await gcloud.run(script, [...demo, '--dry-run'], { installed: false })
  t.equal(dry.code, 0, dry.stderr)
  t.strictSame(gcloud.calls(), [])
  const stdout = dry.stdout.replace('REDISHOST=ADDRESS,REDISPORT=PORT', 'REDISHOST=10.0.0.3,REDISPORT=6379')
  t.equal(stdout + 'Deployed: https://chat.example\n', firstRun.stdout)
  // As a shell reads them, they are what was called.
  await gcloud.run('-c', [stdout])
  t.strictSame(gcloud.calls(), firstCalls)
})

t.test('options change what is made', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.set('compute networks subnets run', 'vpc 10.8.0.0/26')
  gcloud.set('project', 'demo')
  const { code, stderr } = await gcloud.run(script, [
    '--service=shop', '--network', 'vpc', '--subnet=run', '--min-instances', '0', '--max-instances=5', '--cpu', '2', '--memory', '2Gi',
    '--concurrency', '500', '--timeout=300', '--cluster-mode', '--redis-shards', '5', '--redis-replicas=2', '--redis-node', 'highmem-medium',
    '--role', 'roles/logging.logWriter', '--private', '--session-affinity', '--budget', '500'
  ])
  t.strictSame([code, stderr], [0, ''])
  const calls = changes(gcloud.calls())
  const expected = [
    'network-connectivity service-connection-policies create memorystore-vpc --region=us-central1 --network=vpc ' +
      '--service-class=gcp-memorystore --subnets=run',
    'memorystore instances create shop-valkey --location=us-central1 --mode=cluster --shard-count=5 --replica-count=2 ' +
      '--node-type=highmem-medium --engine-version=VALKEY_8_0 --authorization-mode=iam-auth ' +
      '--transit-encryption-mode=server-authentication --endpoints=[{"connections":[{"pscAutoConnection":' +
      '{"network":"projects/demo/global/networks/vpc","projectId":"demo"}}]}]',
    'projects add-iam-policy-binding demo --member=serviceAccount:shop-run@demo.iam.gserviceaccount.com ' +
      '--role=roles/logging.logWriter --condition=None',
    'billing budgets create --billing-account=01AB-02CD --display-name=shop in demo --budget-amount=500 --filter-projects=projects/demo ' +
      '--threshold-rule=percent=0.5 --threshold-rule=percent=0.9 --threshold-rule=percent=1.0'
  ]
  t.strictSame(expected.filter(call => !calls.includes(call)), [])
  t.match(calls[0], /billingbudgets.googleapis.com logging.googleapis.com/)
  const deploy = calls.at(-1)!.split(' ')
  t.equal(deploy[2], 'shop')
  const flags = [
    '--network=vpc', '--subnet=run', '--min=0', '--max=5', '--max-instances=5', '--cpu=2', '--memory=2Gi', '--concurrency=500',
    '--timeout=300', '--invoker-iam-check', '--no-allow-unauthenticated', '--session-affinity',
    '--update-env-vars=CLOUD_RUN_TIMEOUT_SECONDS=300,CLOUD_RUN_CONCURRENCY=500,CLOUD_RUN_MAX_INSTANCES=5,' +
      'REDISHOST=10.0.0.9,REDISPORT=6380,REDIS_CA_FILE=/secrets/redis-ca/ca.pem,REDIS_AUTH=iam,REDIS_CLUSTER=true'
  ]
  t.strictSame(flags.filter(flag => !deploy.includes(flag)), [])
})

t.test('Memorystore for Redis: with a replica, its password as a file, and with TLS if asked for', async (t) => {
  const gcloud = await fakeGcloud(t)
  const plain = await gcloud.run(script, [...demo, '--redis', 'redis'])
  t.equal(plain.code, 0, plain.stderr)
  const create = 'redis instances create chat-redis --region=europe-west1 --network=default'
  t.ok(made(gcloud).includes(`${create} --tier=standard --size=1 --redis-version=redis_7_2 --enable-auth`))
  t.notOk(made(gcloud).some(call => /memorystore|service-connection/.test(call)))
  t.strictSame(listOf(gcloud.calls(), 'update-env-vars').slice(3), [
    'REDISHOST=10.0.0.3', 'REDISPORT=6379', 'REDIS_PASSWORD_FILE=/secrets/redis-password/password'
  ])
  t.strictSame(listOf(gcloud.calls(), 'update-secrets'), [
    '/secrets/redis-password/password=chat-redis-password-europe-west1:latest', 'TOKEN_SECRET=chat-token-secret:1'
  ])

  const other = await fakeGcloud(t)
  const tls = await other.run(script, [...demo, '--redis', 'redis', '--redis-tls', '--redis-tier', 'basic', '--redis-size', '5'])
  t.equal(tls.code, 0, tls.stderr)
  t.ok(made(other).includes(
    `${create} --tier=basic --size=5 --redis-version=redis_7_2 --enable-auth --transit-encryption-mode=server-authentication`))
  t.ok(listOf(other.calls(), 'update-env-vars').includes('REDIS_CA_FILE=/secrets/redis-ca/ca.pem'))
  t.strictSame(listOf(other.calls(), 'update-secrets').slice(0, 2), [
    '/secrets/redis-ca/ca.pem=chat-redis-ca-europe-west1:latest', '/secrets/redis-password/password=chat-redis-password-europe-west1:latest'
  ])
})

t.test('an existing Redis is used by the URL in its secret, at one version for all instances', async (t) => {
  const gcloud = await fakeGcloud(t)
  const args = [...demo, '--redis-url-secret', 'redis']
  const without = await gcloud.run(script, args)
  t.match(without, { code: 1, stderr: /there is no secret redis with a version. Create it: printf %s REDIS_URL \| gcloud secrets create redis/ })
  t.strictSame(made(gcloud), [])
  gcloud.set('secrets redis', 'redis://10.1.1.1')
  gcloud.set('versions redis', 'v\nv\nv\n')
  const { code, stderr } = await gcloud.run(script, args)
  t.equal(code, 0, stderr)
  t.notOk(made(gcloud).some(call => / instances create|memorystore/.test(call)))
  t.strictSame(listOf(gcloud.calls(), 'update-secrets'), ['REDIS_URL=redis:3', 'TOKEN_SECRET=chat-token-secret:1'])
  t.match(gcloud.get('policy secrets redis'), 'roles/secretmanager.secretAccessor')
})

t.test('an older gcloud deploys without what it does not know, and says what that means', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.set('version', '528.0.0')
  gcloud.set('help', '--max-instances=N --[no-]invoker-iam-check is available by invitation only.')
  const { code, stderr } = await gcloud.run(script, demo)
  t.equal(code, 0, stderr)
  t.match(stderr, /knows no --readiness-probe, so full and draining instances.*gcloud components update/)
  t.match(stderr, /knows no --scaling-concurrency-target.*filled to 60%/)
  const flags = flagsOf(gcloud.calls())
  t.notOk(flags.some(flag => /^--(readiness-probe|scaling|max=|no-invoker)/.test(flag)))
  t.ok(['--max-instances=100', '--allow-unauthenticated'].every(flag => flags.includes(flag)))

  gcloud.set('version', '527.0.0')
  const before = gcloud.calls().length
  t.match(await gcloud.run(script, demo), { code: 1, stderr: /gcloud 527.0.0 is too old; this needs 528 or newer: gcloud components update/ })
  t.equal(gcloud.calls().length, before + 1)
})

t.test('deploy.sh says what is missing and what to do, before it makes anything', async (t) => {
  const gcloud = await fakeGcloud(t)
  const withoutGcloud = await gcloud.run(script, demo, { installed: false })
  t.match(withoutGcloud, { code: 1, stdout: '', stderr: 'deploy.sh: gcloud is missing; install it as in https://' })
  const withoutProject = await gcloud.run(script, [])
  const useProject = 'deploy.sh: no project; use --project ID, or: gcloud config set project ID\n'
  t.match(withoutProject, { code: 1, stdout: '', stderr: useProject })
  const otherProject = await gcloud.run(script, [], { env: { GOOGLE_CLOUD_PROJECT: 'other' } })
  t.match(otherProject, { code: 1, stderr: 'deploy.sh: there is no project other, or no access to it' })
  const withoutSubnet = await gcloud.run(script, [...demo, '--subnet', 'gone'])
  const useSubnet = 'deploy.sh: there is no subnet gone in europe-west1; use --network and --subnet, or create one'
  t.match(withoutSubnet, { code: 1, stderr: useSubnet })
  const firstCanary = await gcloud.run(script, [...demo, '--no-traffic'])
  t.match(firstCanary, { code: 1, stderr: /--no-traffic is for an existing service; there is no chat in europe-west1 yet/ })
  gcloud.set('billing', 'False ')
  const withoutBilling = await gcloud.run(script, demo)
  t.match(withoutBilling, { code: 1, stderr: /the project demo has no billing: gcloud billing projects link demo --billing-account=ID/ })
  gcloud.set('billing', 'True 01AB-02CD')
  gcloud.set('denied', 'memorystore instances describe')
  const denied = await gcloud.run(script, demo)
  t.match(denied, { code: 1, stderr: /PERMISSION_DENIED: not for you/ }, 'a Redis that gcloud may not read can exist all the same')
  gcloud.forget('denied')
  gcloud.forget('billing')
  t.match(await gcloud.run(script, [...demo, '--budget', '10']), { code: 1, stderr: /--budget needs permission to see the billing account of demo/ })
  t.strictSame(made(gcloud), [])
  t.match(await gcloud.run(script, demo), { code: 0, stderr: /cannot see whether demo has billing/ })
})

t.test('a subnet has room for two fleets of --max-instances, or the script says which would have', async (t) => {
  // What the page about deploying says, and one instance more than fits.
  const rows = Array.from(read('docs/deploying.md').matchAll(/^\| ([\d,]+) \| \/(\d+)/gm), ([, most = '', prefix = '']) => {
    return { most: Number(most.replace(',', '')), prefix: Number(prefix) }
  })
  t.equal(rows.length, 7)
  const cases = rows.map(({ most, prefix }): [string, string, number] => [String(most), `10.8.0.0/${prefix + 1}`, prefix])
  cases.push(...rows.slice(0, -1).map(({ most, prefix }): [string, string, number] => [String(most + 1), `10.8.0.0/${prefix}`, prefix - 1]))
  for (const [instances, range, needs] of cases) {
    const gcloud = await fakeGcloud(t)
    const args = [...demo, '--subnet', 'run', '--max-instances', instances]
    gcloud.set('compute networks subnets run', `default ${range}`)
    const small = await gcloud.run(script, args)
    t.match(small, { code: 1, stderr: `too small for --max-instances ${instances}, which needs /${needs}. Create one` })
    t.match(small.stderr, `gcloud compute networks subnets create chat-run --network=default --region=europe-west1 --range=10.8.0.0/${needs} --project=demo`)
    t.strictSame(made(gcloud), [])
    gcloud.set('compute networks subnets run', `default 10.8.0.0/${needs}`)
    const { code, stderr } = await gcloud.run(script, args)
    t.equal(code, 0, stderr)
  }
  const gcloud = await fakeGcloud(t)
  gcloud.set('compute networks subnets run', 'vpc 10.8.0.0/20')
  t.match(await gcloud.run(script, [...demo, '--subnet', 'run']), { code: 1, stderr: /the subnet run belongs to the network vpc, not to default/ })
})

t.test('an option that cannot change what exists stops the run', async (t) => {
  const again = 'Use another --service, or delete it first'
  const cases: Array<[redis: string, kind: string, row: string, args: string[], message: string]> = [
    ['valkey', 'memorystore', 'ACTIVE|CLUSTER_DISABLED|IAM_AUTH|SERVER_AUTHENTICATION|1||STANDARD_SMALL|default', ['--redis-replicas', '1'],
      '--redis-replicas 1 has no effect on chat-valkey, which already exists and has 0. Change it: gcloud memorystore instances update chat-valkey --location=europe-west1 --project=demo --replica-count=1'],
    ['valkey', 'memorystore', 'ACTIVE|CLUSTER_DISABLED|IAM_AUTH|SERVER_AUTHENTICATION|1|1|STANDARD_SMALL|default', ['--cluster-mode'], again],
    ['valkey', 'memorystore', 'ACTIVE|CLUSTER|IAM_AUTH|SERVER_AUTHENTICATION|3|1|STANDARD_SMALL|default', ['--cluster-mode', '--redis-shards', '4'], '--shard-count=4'],
    ['valkey', 'memorystore', 'ACTIVE|CLUSTER|IAM_AUTH|SERVER_AUTHENTICATION|3|1|STANDARD_SMALL|default', ['--redis-node', 'highmem-medium'], '--node-type=highmem-medium'],
    ['valkey', 'memorystore', 'ACTIVE|CLUSTER|IAM_AUTH|SERVER_AUTHENTICATION|3|1|STANDARD_SMALL|vpc', ['--network', 'default'], again],
    ['redis', 'redis', 'READY|10.0.0.3|6379|DISABLED|True|BASIC|1|default', ['--redis-tier', 'standard'],
      '--redis-tier standard has no effect on chat-redis, which already exists and has basic. Use another --service'],
    ['redis', 'redis', 'READY|10.0.0.3|6379|DISABLED|True|BASIC|1|default', ['--redis-size', '5'], 'gcloud redis instances update chat-redis --region=europe-west1 --size=5'],
    ['redis', 'redis', 'READY|10.0.0.3|6379|DISABLED|True|BASIC|1|default', ['--redis-tls'], again]
  ]
  for (const [redis, kind, row, args, message] of cases) {
    const gcloud = await fakeGcloud(t)
    gcloud.set(`${kind} instances chat-${redis}`, row)
    const { code, stderr } = await gcloud.run(script, [...demo, '--redis', redis, ...args])
    t.equal(code, 1)
    t.match(stderr, message)
    t.strictSame(made(gcloud), [])
    const without = await gcloud.run(script, [...demo, '--redis', redis])
    t.equal(without.code, 0, without.stderr)
  }
  const gcloud = await fakeGcloud(t)
  gcloud.set('budgets', 'other in demo|100|b-0\nchat in demo|200|b-7')
  t.match(await gcloud.run(script, [...demo, '--budget', '300']), {
    code: 1,
    stderr: /--budget 300 has no effect: there is already a budget of 200. Change it: gcloud billing budgets update b-7 --billing-account=01AB-02CD --budget-amount=300/
  })
  t.strictSame(made(gcloud), [])
})

t.test('a service moves to another kind of Redis only if it is asked to', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.set('service chat', 'redis|True||public')
  t.match(await gcloud.run(script, demo), { code: 1, stderr: /chat uses --redis redis; add that, or --redis valkey to create a new one/ })
  gcloud.set('service chat', 'url|True||public')
  t.match(await gcloud.run(script, demo), { code: 1, stderr: /chat uses your own Redis; add --redis-url-secret NAME, or --redis valkey/ })
  t.strictSame(made(gcloud), [])
  t.equal((await gcloud.run(script, [...demo, '--redis', 'valkey'])).code, 0)
  t.ok(listOf(gcloud.calls(), 'remove-secrets').includes('REDIS_URL'))
})

t.test('a private service is opened to everybody only if that is asked for', async (t) => {
  const gcloud = await fakeGcloud(t)
  t.equal((await gcloud.run(script, [...demo, '--private'])).code, 0)
  const before = made(gcloud).length
  t.match(await gcloud.run(script, demo), { code: 1, stderr: /chat is private; add --private, or --public to open it to everybody/ })
  t.equal(made(gcloud).length, before)
  t.equal((await gcloud.run(script, [...demo, '--private'])).code, 0)
  t.ok(flagsOf(gcloud.calls()).includes('--invoker-iam-check'))
  t.equal((await gcloud.run(script, [...demo, '--public'])).code, 0)
  t.ok(flagsOf(gcloud.calls()).includes('--no-invoker-iam-check'))
  gcloud.set('help', '--max-instances=N --[no-]invoker-iam-check is available by invitation only.')
  t.equal((await gcloud.run(script, [...demo, '--private'])).code, 0, 'what is open may be closed')
  t.ok(['--invoker-iam-check', '--no-allow-unauthenticated'].every(flag => flagsOf(gcloud.calls()).includes(flag)))
})

t.test('a service of somebody else is replaced only if that is asked for', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.set('service chat', '|True|chat-00001||1000m|512Mi|80|300')
  t.match(await gcloud.run(script, demo), { code: 1, stderr: /chat exists, but without the label.*--adopt to replace it/ })
  t.match(await gcloud.run(script, [...demo, '--adopt']), { code: 1, stderr: /nobody can see whether chat is private; add --private or --public/ })
  t.strictSame(made(gcloud), [])
  const { code, stderr } = await gcloud.run(script, [...demo, '--adopt', '--public'])
  t.equal(code, 0, stderr)
  t.ok(['--timeout=3600', '--concurrency=1000'].every(flag => flagsOf(gcloud.calls()).includes(flag)), 'with our settings')
  t.equal((await gcloud.run(script, demo)).code, 0, 'from then on it has the labels')
})

t.test('a rerun keeps what was changed at the service, unless the option is given', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.set('service chat', 'valkey|True|chat-00001|public|2000m|2Gi|500|1800')
  const { code, stderr } = await gcloud.run(script, [...demo, '--timeout', '3600'])
  t.equal(code, 0, stderr)
  t.match(stderr, /keeping --memory=2Gi, which the service has/)
  const kept = ['--cpu=2', '--memory=2Gi', '--concurrency=500', '--timeout=3600']
  t.strictSame(kept.filter(flag => !flagsOf(gcloud.calls()).includes(flag)), [])
  t.ok(listOf(gcloud.calls(), 'update-env-vars').includes('CLOUD_RUN_CONCURRENCY=500'))
})

t.test('a rerun keeps the numbers of instances that were changed at the service, unless they are given', async (t) => {
  const gcloud = await fakeGcloud(t)
  const deployed = async (scaling: string, ...args: string[]) => {
    gcloud.set('service chat', `valkey|True|chat-00001|public|1000m|1Gi|1000|3600|${scaling}`)
    const { code, stderr } = await gcloud.run(script, [...demo, ...args])
    const flags = flagsOf(gcloud.calls()).filter(flag => /^--(min|max)/.test(flag)).toSorted().join(' ')
    return { code, stderr, flags, variable: listOf(gcloud.calls(), 'update-env-vars').find(one => one.startsWith('CLOUD_RUN_MAX_INSTANCES')) }
  }
  t.match(await deployed('3|40|40'), {
    code: 0, flags: '--max-instances=40 --max=40 --min=3', variable: 'CLOUD_RUN_MAX_INSTANCES=40', stderr: /keeping --min-instances=3.*keeping --max-instances=40/s
  })
  t.match(await deployed('3|40|100'), { flags: '--max-instances=40 --max=40 --min=3' }, 'the lower maximum is the one that counts: of the service')
  t.match(await deployed('3|100|40'), { flags: '--max-instances=40 --max=40 --min=3' }, 'or of the revision')
  t.match(await deployed('3||40'), { flags: '--max-instances=40 --max=40 --min=3' }, 'an older gcloud sets only that')
  t.match(await deployed('|40|40'), { flags: '--max-instances=40 --max=40 --min=0' }, 'a service without a minimum has none')
  t.match(await deployed('3|40|40', '--min-instances', '5', '--max-instances', '60'), { flags: '--max-instances=60 --max=60 --min=5' })
  t.match(await deployed('3|40|40', '--max-instances', '2'), { code: 1, stderr: /--min-instances \(3\) must not be more than --max-instances \(2\)/ })
  gcloud.set('compute networks subnets default', 'default 10.128.0.0/24')
  t.match(await deployed('0|900|900'), { code: 1, stderr: /too small for --max-instances 900/ }, 'the subnet is checked for what is kept')
})

t.test('what npm does not have is seen before anything is made, and can be brought as a file', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.forget('npm')
  const without = await gcloud.run(script, demo)
  t.match(without, { code: 1, stderr: /npm has no fastify-cloud-run-websocket@\^0\.1\.0, so the image cannot be built.*--package FILE.*npm error 404/ })
  t.equal(gcloud.get('npm calls'), 'view fastify-cloud-run-websocket@^0.1.0 version\n')
  t.strictSame(changes(gcloud.calls()), [])

  const folder = await mkdtemp(join(tmpdir(), 'package-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const file = await pack(folder, 'fastify-cloud-run-websocket')
  const source = join(folder, 'source')
  await cp(example, source, { recursive: true })
  await mkdir(join(source, 'node_modules'))
  // Another package at the same version, before ours.
  await writeFile(join(source, 'package.json'), read('example/cloud-run/package.json').replace('"dependencies": {', '"dependencies": {\n    "a": "^0.1.0",'))
  await writeFile(join(source, 'package-lock.json'), '{}')
  const before = readdirSync(source)
  const { code, stdout, stderr } = await gcloud.run(script, [...demo, '--source', source, '--package', file])
  t.equal(code, 0, stderr)
  t.match(stderr, /npm takes versions from package.json, not from package-lock.json/)
  t.match(stdout, `# CONTEXT: a copy of ${source} that installs ${file}`)
  const context = gcloud.get('context').trim().split('\n')
  t.ok(['Dockerfile', 'server.mjs', 'public', '.dockerignore', 'fastify-cloud-run-websocket.tgz'].every(name => context.includes(name)))
  t.notOk(context.some(name => name === 'node_modules' || name === 'package-lock.json'))
  const manifest = JSON.parse(gcloud.get('context package.json'))
  t.equal(manifest.dependencies['fastify-cloud-run-websocket'], 'file:fastify-cloud-run-websocket.tgz')
  t.equal(manifest.dependencies.a, '^0.1.0')
  t.equal(manifest.dependencies.fastify, JSON.parse(read('example/cloud-run/package.json')).dependencies.fastify)
  t.strictSame(readdirSync(source), before, 'the source stays as it is')
  const built = flagsOf(gcloud.calls()).find(flag => flag.startsWith('--source='))!.slice('--source='.length)
  t.notOk(existsSync(built), 'the copy is removed')

  const wrong: Array<[file: string, message: string]> = [
    [join(folder, 'gone.tgz'), 'there is no file'], [await pack(folder, 'other'), 'is not fastify-cloud-run-websocket'],
    [join(source, 'Dockerfile'), 'is not a package; create it with npm pack']
  ]
  for (const [name, message] of wrong) {
    const { code, stderr } = await gcloud.run(script, [...demo, '--package', name])
    t.equal(code, 1)
    t.match(stderr, message)
  }
  await writeFile(join(source, 'Dockerfile'), 'FROM node:24-slim')
  t.match(await gcloud.run(script, [...demo, '--source', source, '--package', file]), { code: 1, stderr: /the Dockerfile in .* does not copy/ })
  await rm(join(source, 'package.json'))
  t.equal((await gcloud.run(script, [...demo, '--source', source])).code, 0, 'another app asks npm for nothing')
})

t.test('a canary gets no clients but those of its own URL; nothing is deployed past a choice of traffic.sh', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.set('service chat', 'valkey|True|chat-00001|public')
  const { code, stdout, stderr } = await gcloud.run(script, [...demo, '--no-traffic'])
  t.equal(code, 0, stderr)
  t.ok(['--no-traffic', '--tag=canary'].every(flag => flagsOf(gcloud.calls()).includes(flag)))
  t.match(stdout, /^Deployed without clients: https:\/\/canary---chat.example\nTry it there, then: traffic.sh --to 10 --service chat/m)
  const before = made(gcloud).length
  t.match(await gcloud.run(script, demo), { code: 1, stderr: /traffic.sh has pinned chat to a revision.*--no-traffic/ })
  t.equal(made(gcloud).length, before)
  t.equal((await gcloud.run(script, [...demo, '--no-traffic'])).code, 0)
})

t.test('traffic.sh moves new connections in steps and back, and says what open ones do', async (t) => {
  const gcloud = await fakeGcloud(t)
  gcloud.set('service chat', 'valkey|')
  const step = async (traffic: string[], ...args: string[]) => {
    gcloud.set('traffic', traffic.join('\n'))
    const before = gcloud.calls().length
    const { code, stdout, stderr } = await gcloud.run(trafficScript, [...demo, ...args])
    return { code, stderr, said: stdout.split('\n').slice(2).join('\n'), changed: changes(gcloud.calls().slice(before)) }
  }
  const update = 'run services update-traffic chat --region=europe-west1'
  const canary = ['c-2|c-1|100|', 'c-2|c-2||canary']
  const toTen = await step(canary, '--to', '10')
  t.match(toTen, { code: 0, said: /^Done. Open connections stay where they are, for up to an hour/ })
  t.strictSame(toTen.changed, [`${update} --update-tags=previous=c-1 --to-tags=canary=10`])
  const half = ['c-2|c-1|50|previous', 'c-2|c-2|50|canary']
  t.strictSame((await step(half, '--to=100')).changed, [`${update} --update-tags=previous=c-1 --to-latest --remove-tags=canary`])
  t.strictSame((await step(half, '--rollback')).changed, [`${update} --to-tags=previous=100`])
  t.strictSame((await step(canary, '--rollback', '--revision', 'c-0')).changed, [`${update} --to-revisions=c-0=100`])
  t.strictSame((await step(['c-2|c-2|100|canary'], '--to', '50')).changed, [`${update} --to-tags=canary=50`])

  t.match(await step(canary, '--rollback'), { code: 1, changed: [], stderr: /no revision has the tag "previous". Choose one: gcloud run revisions list/ })
  t.match(await step(['c-1|c-1|100|'], '--to', '10'), { code: 1, changed: [], stderr: /no revision has the tag "canary"; create one: deploy.sh --no-traffic/ })
  t.match(await step(['c-3|c-1|100|', 'c-3|c-2||canary'], '--to', '100'), { code: 1, changed: [], stderr: /c-3 is newer than the canary \(c-2\)/ })
  gcloud.set('denied', 'run services update-traffic')
  t.match(await step(canary, '--to', '10'), { code: 1, said: '', stderr: /not for you/ })
  gcloud.forget('denied')
  gcloud.forget('service chat')
  t.match(await step(canary, '--to', '10'), { code: 1, stderr: /there is no service chat in europe-west1/ })

  const wrong: Array<[string[], string]> = [
    [[], 'use --to PERCENT or --rollback; --help explains them'], [['--to', '101'], '--to must be a whole number from 1 to 100, not 101'],
    [['--to', '0'], '--to must be a whole number from 1 to 100, not 0'], [['--to', '5', '--rollback'], '--to and --rollback exclude each other'],
    [['--to', '5', '--revision', 'x'], '--revision is for --rollback'], [['--to', '--dry-run'], '--to needs a value'], [['--too'], 'unknown option --too; --help lists all options']
  ]
  for (const [args, message] of wrong) {
    t.strictSame(await gcloud.run(trafficScript, args), { code: 1, stdout: '', stderr: `traffic.sh: ${message}\n` })
  }
  const calls = gcloud.calls().length
  const dry = await gcloud.run(trafficScript, [...demo, '--to', '10', '--dry-run'], { installed: false })
  t.match(dry, { code: 0, stdout: `gcloud ${update} --update-tags=previous=PREVIOUS --to-tags=canary=10 --project=demo\n`, stderr: '' })
  t.equal(gcloud.calls().length, calls)
})

t.test('a wrong option stops before anything is asked or made', async (t) => {
  const gcloud = await fakeGcloud(t)
  const wrong: Array<[string[], string]> = [
    [['--regoin', 'x'], 'unknown option --regoin; --help lists all options'],
    [['--role'], '--role needs a value'],
    [['--cpu', '0.5'], '--cpu must be 1, 2, 4, 6 or 8, not 0.5'],
    [['--memory', 'lots'], '--memory must be a size such as 512Mi or 1Gi, not lots'],
    [['--private', '--public'], '--private and --public exclude each other'],
    [['--timeout', '3601'], '--timeout must be a whole number from 1 to 3600, not 3601'],
    [['--concurrency=many'], '--concurrency must be a whole number from 2 to 1000, not many'],
    [['--concurrency=1'], '--concurrency must be a whole number from 2 to 1000, not 1'],
    [['--min-instances', '3', '--max-instances', '2'], '--min-instances (3) must not be more than --max-instances (2)'],
    [['--max-instances', '99999999999999999999'], '--max-instances must be a whole number from 1 to 1000, not 99999999999999999999'],
    [['--redis', 'mongo'], '--redis must be valkey or redis, not mongo'],
    [['--redis', 'redis', '--redis-tier', 'gold'], '--redis-tier must be basic or standard, not gold'],
    [['--redis-tier', 'basic'], '--redis-tier is for --redis redis'],
    [['--redis-tls'], '--redis-tls is for --redis redis'],
    [['--redis', 'redis', '--cluster-mode'], '--cluster-mode is for --redis valkey'],
    [['--redis-shards', '3'], '--redis-shards is for --cluster-mode'],
    [['--redis-node', 'huge'], '--redis-node must be shared-core-nano, standard-small, highmem-medium or highmem-xlarge, not huge'],
    [['--redis-url-secret', 'x', '--redis', 'redis'], '--redis is for a new Redis, and cannot be used with --redis-url-secret'],
    [['--budget', '1.5'], '--budget must be a whole amount in the currency of the billing account, not 1.5'],
    [['--service', 'Chat'], '--service must be 2 to 24 lowercase letters, digits and -, not Chat'],
    [['--source', '/nowhere'], 'there is no Dockerfile in /nowhere']
  ]
  const runs = await Promise.all(wrong.map(([args]) => gcloud.run(script, args)))
  t.strictSame(runs, wrong.map(([, message]) => ({ code: 1, stdout: '', stderr: `deploy.sh: ${message}\n` })))
  t.strictSame(gcloud.calls(), [])
})

t.test('--help explains every option', async (t) => {
  const gcloud = await fakeGcloud(t)
  for (const [file, source, least] of [[script, 'example/cloud-run/deploy/options.sh', 27], [trafficScript, 'example/cloud-run/traffic.sh', 7]] as const) {
    const { code, stdout } = await gcloud.run(file, ['--help'])
    t.equal(code, 0)
    const patterns = Array.from(read(source).matchAll(/^ {4,6}(--[^=\n]+?)\)/gm), ([, names = '']) => names.split('|'))
    const options = patterns.flat().filter(name => name.startsWith('--') && name !== '--*')
    t.ok(options.length >= least, `${options.length}`)
    t.strictSame(options.filter(option => !new RegExp(`^  ${option}\\b`, 'm').test(stdout)), [])
  }
})

t.test('the page about deploying gives a reason for every setting, and names none that is not made', async (t) => {
  const section = read('docs/deploying.md')
  const nameOf = (flag: string) => flag.split('=')[0]
  const cells = section.split('\n').filter(line => line.startsWith('| `--')).map(line => line.split('|')[1]!)
  const inTable = cells.flatMap(cell => Array.from(cell.matchAll(/--[a-z0-9-]+/g), ([flag]) => flag))
  // Users choose these as they like; the plugin does not depend on them.
  const chosen = ['--region', '--source', '--project', '--build-service-account', '--cpu', '--memory', '--port', '--update-labels']
  t.strictSame(inTable.toSorted(), flagsOf(firstCalls).map(nameOf).filter(flag => !chosen.includes(flag!)).toSorted())
  const exact = cells.flatMap(cell => Array.from(cell.matchAll(/`(--[a-z0-9-]+=[^`…]+)`/g), ([, setting]) => setting))
  t.ok(exact.length >= 8)
  t.strictSame(exact.filter(setting => !flagsOf(firstCalls).some(flag => flag.startsWith(setting!))), [], 'with its values')
})

for (const page of ['docs/deploying.md', 'docs/rollouts.md', 'example/cloud-run/README.md']) {
  t.test(`every command of our scripts in ${page} is one they take`, async (t) => {
    const lines = Array.from(read(page).matchAll(/```sh\n([^]*?)```/g), ([, block = '']) => block.trim().split('\n')).flat()
    const commands = lines.filter(line => /^\S*(deploy|traffic)\.sh /.test(line))
    t.ok(commands.length > 0)
    const folder = await mkdtemp(join(tmpdir(), 'package-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const file = await pack(folder, 'fastify-cloud-run-websocket')
    for (const line of commands) {
      const [name = '', ...args] = line.replace(/ +#.*/, '').replace('fastify-cloud-run-websocket-0.1.0.tgz', file).split(' ')
      const { code, stderr } = await first.run(join(example, basename(name)), [...args, '--dry-run'])
      t.equal(code, 0, `${line}: ${stderr}`)
    }
  })
}

t.test('the page about rollouts shows what traffic.sh runs', async (t) => {
  const shown = Array.from(read('docs/rollouts.md').matchAll(/^gcloud run services update-traffic .*$/gm), ([line]) => line)
  const runs = [['--to', '10'], ['--to', '100'], ['--rollback']]
  const printed = await Promise.all(runs.map(async (args) => {
    const { stdout } = await first.run(trafficScript, ['--project', 'my-project', '--region', 'europe-west1', ...args, '--dry-run'])
    return stdout.trim().split('\n').at(-1)
  }))
  t.strictSame(shown, printed)
})

t.test('shellcheck finds nothing, where it is installed', { skip: findProgram('shellcheck') === undefined }, async (t) => {
  const parts = readdirSync(join(example, 'deploy')).map(name => join(example, 'deploy', name))
  await t.resolves(promisify(execFile)('shellcheck', [script, trafficScript, ...parts]))
})

const valueOf = (name: string) => lastStage(example).findLast(instruction => instruction.name === name)?.value ?? ''

t.test('the container runs Node itself, as a user without rights, with production dependencies alone', async (t) => {
  t.match(valueOf('FROM'), /^node:\d+-slim$/)
  t.equal(valueOf('USER'), 'node')
  t.equal(JSON.parse(valueOf('CMD'))[0], 'node', 'neither a shell nor npm, which do not pass SIGTERM on')
  t.match(valueOf('ENV'), /\bNODE_ENV=production\b/)
  t.notOk(lastStage(example).some(({ name }) => name === 'RUN' || name === 'ENTRYPOINT'), 'npm is not used where it runs')
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
  const app = await unpackContainer(t, example)
  const [redis, metadata, collector] = await Promise.all([startRedis(t), startMetadataServer(t), startCollector(t)])
  await command(redis.port, ['CONFIG', 'SET', 'requirepass', 'auth-string'])
  const port = await freePort()
  const [program, ...args] = JSON.parse(valueOf('CMD'))
  const child = spawn(program, args, {
    cwd: app,
    stdio: ['ignore', 'pipe', 'inherit'],
    // As deploy.sh sets it with --redis-url-secret.
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
