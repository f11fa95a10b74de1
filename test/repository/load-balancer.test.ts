import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { computeGcloud } from '../helpers/compute-gcloud.ts'
import { findProgram } from '../helpers/programs.js'

const root = resolve(import.meta.dirname, '../..')
const script = join(root, 'example/load-balancer/setup.sh')
const regions = ['us-central1', 'europe-west1']
const demo = ['--project', 'demo', '--domain', 'chat.example.com', '--regions', regions.join(',')]
const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** The calls that change something. */
const changes = (calls: string[]) => calls.filter(call => !/ describe | list /.test(call))

t.setTimeout(120_000)

const made = [
  'services enable compute.googleapis.com',
  'compute addresses create chat --global --ip-version=IPV4',
  'compute security-policies create chat --global',
  'compute security-policies rules create 1000 --security-policy=chat --src-ip-ranges=* --action=throttle ' +
    '--rate-limit-threshold-count=6000 --rate-limit-threshold-interval-sec=60 --conform-action=allow --exceed-action=deny-429 ' +
    '--enforce-on-key=IP',
  'compute backend-services create chat --global --load-balancing-scheme=EXTERNAL_MANAGED',
  'compute backend-services update chat --global --security-policy=chat',
  ...regions.flatMap(region => [
    `compute network-endpoint-groups create chat --region=${region} --network-endpoint-type=serverless --cloud-run-service=chat`,
    `compute backend-services add-backend chat --global --network-endpoint-group=chat --network-endpoint-group-region=${region}`
  ]),
  'compute ssl-certificates create chat --global --domains=chat.example.com',
  'compute url-maps create chat --global --default-service=chat',
  'compute target-https-proxies create chat --global --url-map=chat --ssl-certificates=chat',
  'compute forwarding-rules create chat-https --global --load-balancing-scheme=EXTERNAL_MANAGED --address=chat ' +
    '--target-https-proxy=chat --ports=443',
  'compute url-maps import chat-redirect --global',
  'compute target-http-proxies create chat-redirect --global --url-map=chat-redirect',
  'compute forwarding-rules create chat-http --global --load-balancing-scheme=EXTERNAL_MANAGED --address=chat ' +
    '--target-http-proxy=chat-redirect --ports=80'
]
const closed = regions.map(region => `run services update chat --region=${region} --ingress=internal-and-cloud-load-balancing ` +
  '--update-env-vars=TRUSTED_PROXIES=1,REDIS_READINESS=always')

t.test("the first run makes everything, and leaves the service's own address open until there is a certificate", async (t) => {
  const gcloud = await computeGcloud(t, script, regions)
  const first = await gcloud.run(demo)
  t.equal(first.code, 0, first.stderr)
  t.strictSame(changes(gcloud.calls()), made)
  t.match(first.stdout, /^The certificate is PROVISIONING\. Create an A record that points chat\.example\.com to 203\.0\.113\.7\./m)
  t.strictSame(gcloud.state()['url-maps/chat-redirect'], {
    name: 'chat-redirect',
    defaultUrlRedirect: { httpsRedirect: true, redirectResponseCode: 'MOVED_PERMANENTLY_DEFAULT' }
  })

  await t.test('once it is active, a run closes the address and has the app trust one proxy, and makes nothing twice', async (t) => {
    gcloud.change(state => { state.certificate = { status: 'ACTIVE' } })
    const before = gcloud.calls().length
    const { code, stdout, stderr } = await gcloud.run(demo)
    t.equal(code, 0, stderr)
    t.strictSame(changes(gcloud.calls().slice(before)), closed)
    t.match(stdout, /^Ready: https:\/\/chat\.example\.com$/m)
  })

  await t.test('another limit changes the rule, and a third region joins', async (t) => {
    gcloud.change(state => { state['run/asia-east1'] = { ...state['run/us-central1'] } })
    const before = gcloud.calls().length
    const { code, stderr } = await gcloud.run([...demo, '--regions', 'us-central1,europe-west1,asia-east1', '--requests-per-minute=20000', '--shared-redis'])
    t.equal(code, 0, stderr)
    t.match(changes(gcloud.calls().slice(before)), [
      /^compute security-policies rules update 1000 .*--rate-limit-threshold-count=20000/,
      /^compute network-endpoint-groups create chat --region=asia-east1/,
      /^compute backend-services add-backend chat .*--network-endpoint-group-region=asia-east1/,
      ...Array(3).fill(/^run services update .* --update-env-vars=TRUSTED_PROXIES=1$/)
    ])
  })

  await t.test('a certificate cannot change its domain, and the script says so', async (t) => {
    const { code, stderr } = await gcloud.run([...demo, '--domain=talk.example.com'])
    t.equal(code, 1)
    t.match(stderr, 'setup.sh: the certificate chat is for chat.example.com, which cannot be changed; use another --name for talk.example.com')
  })
})

t.test('an interrupted run continues where it stopped', async (t) => {
  const gcloud = await computeGcloud(t, script, regions)
  for (const call of ['compute security-policies rules create', 'compute backend-services update', 'compute url-maps import']) {
    gcloud.change(state => { state.denied = { call } })
    const { code, stderr } = await gcloud.run(demo)
    t.equal(code, 1)
    t.match(stderr, /PERMISSION_DENIED: not for you[^]*Run it again to continue/)
  }
  gcloud.change(state => { delete state.denied })
  const { code, stderr } = await gcloud.run(demo)
  t.equal(code, 0, stderr)
  const calls = changes(gcloud.calls())
  t.strictSame(calls.filter((call, i) => calls.indexOf(call) === i), made, 'nothing was left out')
})

t.test('a service in one region needs no health of the region', async (t) => {
  const gcloud = await computeGcloud(t, script, ['us-central1'])
  gcloud.change(state => {
    state['run/us-central1'] = { yaml: 'spec: {}' }
    state.certificate = { status: 'ACTIVE' }
  })
  const { code, stderr } = await gcloud.run(['--project', 'demo', '--domain', 'chat.example.com'])
  t.equal(code, 0, stderr)
  t.equal(changes(gcloud.calls()).at(-1), 'run services update chat --region=us-central1 ' +
    '--ingress=internal-and-cloud-load-balancing --update-env-vars=TRUSTED_PROXIES=1')
})

t.test('a dry run prints the very commands of the first run and of the one that closes the service, and calls nothing', async (t) => {
  const gcloud = await computeGcloud(t, script, regions)
  const dry = await gcloud.run([...demo, '--dry-run'], { installed: false })
  t.equal(dry.code, 0, dry.stderr)
  t.strictSame(gcloud.calls(), [])
  const commands = dry.stdout.split('\n').slice(0, -1)
  const { stdout } = await promisify(execFile)('bash', ['-c', `gcloud () { cat /dev/null; echo "$*"; }\n${commands.join('\n')}`])
  const called = stdout.split('\n').slice(0, -1)
  t.ok(called.every(call => call.endsWith(' --project=demo')), 'no command depends on what gcloud is set to')
  t.strictSame(changes(called.map(call => call.replace(/ --project=demo$/, ''))), [...made, ...closed])
})

t.test('setup.sh says what is missing and what to do, before anything is made', async (t) => {
  const gcloud = await computeGcloud(t, script, ['us-central1'])
  const says = async (args: string[], expected: string | RegExp, settings = {}) => {
    const { code, stderr } = await gcloud.run(args, settings)
    t.equal(code, 1)
    t.match(stderr, expected)
  }
  await says(demo, 'setup.sh: there is no service chat in europe-west1; deploy it first, or use --service and --regions')
  await says(demo, 'setup.sh: gcloud is missing; install it as in https://', { installed: false })
  await says(demo.slice(2), 'setup.sh: no project; use --project ID, or: gcloud config set project ID')
  gcloud.change(state => { state['run/europe-west1'] = { yaml: "run.googleapis.com/minScale: '1'" } })
  await says(demo, /the service chat in europe-west1 has no readiness probe/)
  gcloud.change(state => { state['run/europe-west1'] = { yaml: "run.googleapis.com/minScale: '0'\nreadinessProbe:" } })
  await says(demo, /europe-west1 may scale to zero, and then Cloud Run does not know the region's health. To change that: gcloud run services update chat --region=europe-west1 --min=1/)
  t.strictSame(changes(gcloud.calls()).filter(call => !call.startsWith('config')), [])
})

t.test('a wrong option stops before anything is asked', async (t) => {
  const gcloud = await computeGcloud(t, script, [])
  const wrong: Array<[string[], string]> = [
    [[], "--domain must be a domain like chat.example.com, not ''"],
    [['--domian', 'x'], 'unknown option --domian; --help lists all options'],
    [['--domain'], '--domain needs a value'],
    [[...demo, '--regions', 'us-central1 europe-west1'], '--regions must be regions separated by commas, not us-central1 europe-west1'],
    [[...demo, '--name', 'Chat'], '--name must be 2 to 53 lowercase letters, digits and -, not Chat'],
    [[...demo, '--service', 'a b'], '--service must be the name of a Cloud Run service, not a b'],
    [[...demo, '--requests-per-minute', '0'], '--requests-per-minute must be a whole number from 1 to 1000000, not 0'],
    [[...demo, '--requests-per-minute', '1000001'], '--requests-per-minute must be a whole number from 1 to 1000000, not 1000001']
  ]
  const runs = await Promise.all(wrong.map(([args]) => gcloud.run(args)))
  t.strictSame(runs, wrong.map(([, message]) => ({ code: 1, stdout: '', stderr: `setup.sh: ${message}\n` })))
  t.strictSame(gcloud.calls(), [])
  const { stdout } = await gcloud.run(['--help'])
  const [, names = ''] = /^ {4}(--domain\|[^)]+)\)/m.exec(read('example/load-balancer/setup.sh'))!
  t.ok(names.split('|').length > 5)
  t.strictSame([...names.split('|'), '--shared-redis', '--dry-run'].filter(option => !new RegExp(`^  ${option} `, 'm').test(stdout)), [], '--help explains every option')
})

t.test('the page shows the commands that the script runs', async (t) => {
  const gcloud = await computeGcloud(t, script, regions)
  const page = read('docs/load-balancer.md')
  const [, command = ''] = /```sh\n(example\/load-balancer\/setup\.sh [^`]*?)\n```/.exec(page) ?? []
  const args = command.replaceAll('\\\n', ' ').split(/\s+/).slice(1)
  const { code, stdout, stderr } = await gcloud.run([...args, '--dry-run'], { installed: false })
  t.equal(code, 0, stderr)
  const [, shown = ''] = /<!-- from setup\.sh --dry-run -->\n```sh\n([^`]*?)```/.exec(page) ?? []
  const commands = stdout.split('\n').filter(line => !/ describe | list /.test(line)).join('\n').replaceAll(' --project=my-project', '')
  t.equal(shown.replaceAll(' \\\n  ', ' '), commands)
})

t.test('shellcheck finds nothing, where it is installed', { skip: findProgram('shellcheck') === undefined }, async (t) => {
  await t.resolves(promisify(execFile)('shellcheck', [script]))
})
