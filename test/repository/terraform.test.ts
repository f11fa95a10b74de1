/* eslint no-template-curly-in-string: off -- they are Terraform's expressions */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { cp, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import { cellsOf } from '../helpers/markdown.ts'
import { findProgram } from '../helpers/programs.js'
import { startProviders } from '../helpers/terraform-providers.ts'

// Required, as its types would bring those of browsers into the whole program.
const { parse } = createRequire(import.meta.url)('@cdktf/hcl2json') as { parse (name: string, text: string): Promise<Block> }

const root = resolve(import.meta.dirname, '../..')
const module = join(root, 'example/terraform')
const monitoring = join(root, 'example/monitoring')
const read = (...path: string[]) => readFileSync(join(...path), 'utf8')
const exec = promisify(execFile)

/** A block as HCL2JSON writes it: nested blocks are lists, and expressions are strings with `${}`. */
type Block = Record<string, any>

const files = readdirSync(module).filter(name => name.endsWith('.tf'))
const parsed: Block[] = await Promise.all(files.map(name => parse(name, read(module, name))))

/** Everything of one kind, by name: all variables, all locals. */
const all = (kind: string): Block => Object.assign({}, ...parsed.map(file => file[kind] ?? {}))
const locals: Block = Object.assign({}, ...parsed.flatMap(file => file.locals ?? []))
const variables = all('variable')

function resource (type: string, name = 'this'): Block {
  const found = parsed.map(file => file.resource?.[type]?.[name]?.[0]).find(Boolean)
  if (found === undefined) throw new Error(`there is no ${type}.${name}`)
  return found
}

/** All resources as `type.name`. */
const resources = (kind: 'resource' | 'data' | 'ephemeral') => parsed.flatMap(file =>
  Object.entries(file[kind] ?? {}).flatMap(([type, named]) => Object.keys(named as Block).map(name => `${type}.${name}`)))

/** Every string in it. */
function strings (value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(strings) : []
}

const expressions = strings(parsed).filter(text => text.includes('${'))

/** The flags of `gcloud run deploy` in deploy.sh. */
async function deployed (): Promise<Record<string, string>> {
  const { stdout } = await exec('bash', [join(root, 'example/cloud-run/deploy.sh'), '--project=demo', '--dry-run'])
  const line = stdout.split('\n').find(line => /gcloud run deploy chat /.test(line))!
  const flags = line.match(/(?<=\s'?--)[^\s']+(?:=[^']*(?='))?/g)!
  return Object.fromEntries(flags.map(flag => [flag.split('=')[0]!, flag.slice(flag.indexOf('=') + 1)]))
}

/** A probe as a flag of gcloud has it. */
function flagOf ([{ http_get: [{ path }], ...numbers }]: [Block]): Record<string, string> {
  const camel = (name: string) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase())
  return { 'httpGet.path': path, ...Object.fromEntries(Object.entries(numbers).map(([name, value]) => [camel(name), String(value)])) }
}

t.setTimeout(120_000)

t.test('the service has the settings that deploy.sh gives it', async (t) => {
  const flags = await deployed()
  const service = resource('google_cloud_run_v2_service')
  const [template] = service.template
  const [container] = template.containers
  const probe = (name: string) => Object.fromEntries(flags[`${name}-probe`]!.split(',').map(pair => pair.split('=')))
  for (const name of ['startup', 'readiness', 'liveness']) t.match(flagOf(container[`${name}_probe`]), probe(name), `${name} probe`)
  t.match(template, {
    timeout: '${var.timeout}s',
    max_instance_request_concurrency: '${var.concurrency}',
    execution_environment: 'EXECUTION_ENVIRONMENT_GEN2',
    session_affinity: false,
    service_account: '${google_service_account.run.email}',
    scaling: [{ max_instance_count: '${var.max_instances}', concurrency_utilization: '${var.concurrency_target}' }],
    vpc_access: [{ egress: 'PRIVATE_RANGES_ONLY', network_interfaces: [{ subnetwork: '${google_compute_subnetwork.run[each.key].id}' }] }]
  })
  t.match(service.scaling, [{ min_instance_count: '${var.min_instances}', max_instance_count: '${var.max_instances}' }])
  t.match(container, {
    ports: [{ name: 'http1', container_port: Number(flags.port) }],
    resources: [{ cpu_idle: false, startup_cpu_boost: true, limits: { cpu: '${var.cpu}', memory: '${var.memory}' } }]
  })
  for (const name of ['timeout', 'concurrency', 'cpu', 'memory']) t.equal(String(variables[name][0].default), flags[name], name)
  t.match(variables, { min_instances: [{ default: 1 }], max_instances: [{ default: 100 }], concurrency_target: [{ default: 0.9 }] })
  t.strictSame(['no-cpu-throttling', 'cpu-boost', 'no-use-http2'].filter(flag => !(flag in flags)), [])
  t.equal(flags['execution-environment'], 'gen2')
  t.equal(flags['vpc-egress'], 'private-ranges-only')
})

t.test('an instance is told what it cannot see, and how it reaches Redis', async (t) => {
  const names = Array.from(locals.env.matchAll(/\b([A-Z][A-Z_]+)\s+=/g), ([, name]: string[]) => name)
  t.strictSame(names, [
    'CLOUD_RUN_TIMEOUT_SECONDS', 'CLOUD_RUN_CONCURRENCY', 'CLOUD_RUN_MAX_INSTANCES', 'REDIS_URL', 'REDIS_CA_FILE', 'REDIS_AUTH',
    'REDIS_CLUSTER', 'TRUSTED_PROXIES', 'REDIS_READINESS'
  ])
  const [template] = resource('google_cloud_run_v2_service').template
  const [{ volume_mounts: [mount] }] = template.containers
  const [volume] = template.volumes
  t.equal(volume.name, mount.name)
  t.equal(`${locals.redis_ca_folder}/${volume.secret[0].items[0].path}`, '/secrets/redis-ca/ca.pem')
  t.match(locals.env, '"${local.redis_ca_folder}/ca.pem"')
  t.match(resource('google_memorystore_instance', 'redis'), { transit_encryption_mode: 'SERVER_AUTHENTICATION', authorization_mode: 'IAM_AUTH' })
})

t.test('the service may send metrics, log in to Redis and read its two secrets, and nothing else', async (t) => {
  t.equal(resource('google_project_iam_member', 'run').for_each.match(/roles\/[\w.]+/g).join(' '),
    'roles/telemetry.metricsWriter roles/serviceusage.serviceUsageConsumer roles/memorystore.dbConnectionUser')
  const secrets = resource('google_secret_manager_secret_iam_member', 'run')
  t.equal(secrets.role, 'roles/secretmanager.secretAccessor')
  t.strictSame(secrets.for_each.match(/google_\w+\.\w+/g), ['google_secret_manager_secret.token', 'google_secret_manager_secret.redis_ca'])
  t.strictSame(resources('resource').filter(name => name.includes('_iam_')).sort(),
    ['google_project_iam_member.run', 'google_secret_manager_secret_iam_member.run'])
})

t.test('the secret for tokens is in no state', async (t) => {
  const version = resource('google_secret_manager_secret_version', 'token')
  t.equal(version.secret_data_wo, '${ephemeral.random_password.token.result}')
  t.notOk('secret_data' in version)
  t.strictSame(expressions.filter(text => text.includes('ephemeral.')), [version.secret_data_wo])
  t.notOk(Object.values(all('output')).some(([output]) => /secret|random/.test(output.value)))
})

t.test('the load balancer has no timeout, limits requests by address, and is the only way in', async (t) => {
  const backend = resource('google_compute_backend_service')
  t.notOk('timeout_sec' in backend, 'a serverless backend takes none')
  t.equal(backend.load_balancing_scheme, 'EXTERNAL_MANAGED')
  t.equal(backend.security_policy, '${google_compute_security_policy.this[0].id}')
  t.match(resource('google_compute_security_policy').rule, [
    { action: 'throttle', rate_limit_options: [{ enforce_on_key: 'IP', exceed_action: 'deny(429)', rate_limit_threshold: [{ interval_sec: 60 }] }] },
    { action: 'allow', priority: 2147483647 }
  ])
  t.match(resource('google_compute_url_map', 'redirect').default_url_redirect, [{ https_redirect: true }])
  t.equal(resource('google_cloud_run_v2_service').ingress,
    '${var.domain == null ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"}')
  t.match(locals.env, 'var.domain == null ? {} : { TRUSTED_PROXIES = "1" }')
  const setup = read(root, 'example/load-balancer/setup.sh')
  t.match(setup, `requests_per_minute=${variables.requests_per_minute[0].default}\n`, 'the script has the same limit')
})

t.test('every variable says what it is and what it takes, and is used', async (t) => {
  for (const [name, [variable]] of Object.entries(variables)) {
    t.ok(/^\w.*\.$/.test(variable.description), `${name} has a description`)
    t.match(variable.type, /^\$\{\w+(\(\w+\))?\}$|^(string|number|bool)$/, `${name} has a type`)
    t.ok(strings(parsed.map(({ variable: _, ...rest }) => rest)).some(text => new RegExp(`\\bvar\\.${name}\\b`).test(text)), `${name} is used`)
  }
  for (const [name, [output]] of Object.entries(all('output'))) t.match(output.description, /^[A-Z].*\.$/, name)
})

t.test('the README has a row for every variable, with its default', async (t) => {
  const rows = read(module, 'README.md').split('## Variables')[1]!.split('\n## ')[0]!.split('\n').filter(line => line.startsWith('| `')).map(cellsOf)
  const cells = Object.fromEntries(rows.map(([name, value]) => [name!.replaceAll('`', '').trim(), value!.trim()]))
  const expected = Object.entries(variables).map(([name, [variable]]) => {
    if (!('default' in variable)) return [name, 'required']
    const value = variable.default
    return [name, value === null ? 'none' : `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``]
  })
  t.strictSame(Object.fromEntries(Object.entries(cells).sort()), Object.fromEntries(expected.sort()))
})

t.test('every reference leads to something that is declared', async (t) => {
  const known = new Set([
    ...Object.keys(variables).map(name => `var.${name}`), ...Object.keys(locals).map(name => `local.${name}`),
    ...resources('resource'), ...resources('data').map(name => `data.${name}`), ...resources('ephemeral').map(name => `ephemeral.${name}`)
  ])
  const used = expressions.flatMap(text => Array.from(text.matchAll(
    /(?<![\w."/])(?:(?:var|local)\.[a-z_]+|(?:data\.|ephemeral\.)?(?:google|random)_[a-z0-9_]+\.[a-z_]+)/g), ([name]) => name))
  t.ok(used.length > 100)
  t.strictSame(used.filter(name => !known.has(name)), [])
  const unused = Object.keys(locals).filter(name => !used.includes(`local.${name}`))
  t.strictSame(unused, [], 'every local is used')
})

t.test('an API is turned on for everything that is made', async (t) => {
  const apis = resource('google_project_service', 'apis').for_each.match(/(?<=")[a-z]+(?=")/g)
  const of: Record<string, string> = { billing: 'billingbudgets', cloud: 'run', network: 'networkconnectivity', secret: 'secretmanager', service: 'iam' }
  const needed = resources('resource').map(name => name.split('_')[1]!).filter(word => word !== 'project').map(word => of[word] ?? word)
  t.strictSame([...new Set(needed)].filter(api => !apis.includes(api)), [])
})

/** Files of example/monitoring, by their path in it. */
const monitoringFiles = Object.fromEntries(readdirSync(monitoring, { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.json')).map(name => [name, read(monitoring, name)]))

/** What this module does not make: it has a Valkey. */
const LEFT_OUT = ['optional/memorystore-redis.json']

t.test('every file of example/monitoring is used', async (t) => {
  const source = read(module, 'monitoring.tf')
  const used = (name: string) => source.includes(`"${name}"`) || /^(alerts|log-metrics)\/[\w-]+\.json$|^slo[\w-]*\.json$/.test(name)
  t.strictSame(Object.keys(monitoringFiles).filter(name => !used(name) && !LEFT_OUT.includes(name)), [])
  const words = Object.entries(monitoringFiles).filter(([name]) => !LEFT_OUT.includes(name)).flatMap(([, text]) => text.match(/\$\{[A-Z_]+\}/g) ?? [])
  const replaced = source.match(/(?<=\$)\$\{[A-Z]+\}(?=",)/g)!
  t.strictSame([...new Set(words)].filter(word => !replaced.includes(word)), [], 'every placeholder is replaced')
})

t.test('every field of a file of example/monitoring becomes the argument of the same name', async (t) => {
  const source = read(module, 'monitoring.tf')
  /** Names of all fields; what is inside of labels is the file's own. */
  const fields = (value: unknown): string[] => {
    if (typeof value !== 'object' || value === null) return []
    if (Array.isArray(value)) return value.flatMap(fields)
    return Object.entries(value).flatMap(([name, inner]) => [name, .../^(userLabels|labelExtractors)$/.test(name) ? [] : fields(inner)])
  }
  for (const [name, text] of Object.entries(monitoringFiles)) {
    if (name === 'dashboard.json' || LEFT_OUT.includes(name)) continue
    // A service of one's own has no settings.
    const missing = new Set(fields(JSON.parse(text)).filter(field => field !== 'custom' && !new RegExp(`\\.${field}\\b`).test(source)))
    t.strictSame([...missing], [], name)
  }
  const pairs = Array.from(source.matchAll(/^ +([a-z_]+) += (?:try\()?\w+(?:\.\w+)*\.([a-z]\w*)(?:, \w+\))?$/gm), ([, argument, field]) => [argument, field])
  const snake = (field: string) => field.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
  t.ok(pairs.length > 50)
  const others = ['for_each', 'service', 'slo_id']
  t.strictSame(pairs.filter(([argument, field]) => snake(field!) !== argument && !others.includes(argument!)), [])
})

const withoutTerraform = findProgram('terraform') === undefined && 'terraform is not installed'

t.test('terraform fmt changes nothing', { skip: withoutTerraform }, async (t) => {
  t.equal((await exec('terraform', ['fmt', '-check', '-recursive', module])).stdout, '')
})

/** Evaluates locals with these variables in Terraform, without a provider: `redis` stands for what Google answers. */
async function evaluate (t: Test, names: string[], values: Block, redis: Block = {}): Promise<Block> {
  const needed = new Set<string>()
  const collect = (name: string): void => {
    if (needed.has(name)) return
    needed.add(name)
    for (const [, inner] of String(locals[name]).matchAll(/\blocal\.([a-z_]+)/g)) collect(inner!)
  }
  names.forEach(collect)
  const known = Object.fromEntries([...needed].map(name => [name, locals[name].replaceAll('data.google_project.this.number', '123')
    .replaceAll('google_memorystore_instance.redis', 'local.redis')]))
  const folder = t.testdir({
    'locals.tf.json': JSON.stringify({ locals: { ...known, redis }, output: Object.fromEntries(names.map(name => [name, { value: `\${local.${name}}` }])) }),
    'terraform.tfvars.json': JSON.stringify({ project: 'demo', image: 'image', runbook: 'https://example.com/runbook.md', ...values })
  })
  await cp(join(module, 'variables.tf'), join(folder, 'variables.tf'))
  const terraform = (...args: string[]) => exec('terraform', [`-chdir=${folder}`, ...args])
  await terraform('init', '-input=false')
  await terraform('apply', '-input=false', '-auto-approve')
  const { stdout } = await terraform('output', '-json')
  return Object.fromEntries(Object.entries(JSON.parse(stdout)).map(([name, output]) => [name, (output as Block).value]))
}

t.test('subnets have four addresses for each instance, and grow where they are', { skip: withoutTerraform }, async (t) => {
  const regions = ['us-central1', 'europe-west1']
  const ranges = async (max: number) => evaluate(t, ['run_ranges', 'redis_ranges'], { regions, domain: 'chat.example.com', max_instances: max })
  const ofHundred = await ranges(100)
  t.strictSame(ofHundred, {
    run_ranges: { 'us-central1': '10.64.0.0/23', 'europe-west1': '10.64.64.0/23' },
    redis_ranges: { 'us-central1': '10.64.63.248/29', 'europe-west1': '10.64.127.248/29' }
  })
  t.match(await ranges(1), { run_ranges: { 'us-central1': '10.64.0.0/26' } }, 'Cloud Run wants a /26')
  t.match(await ranges(1000), { run_ranges: { 'us-central1': '10.64.0.0/20', 'europe-west1': '10.64.64.0/20' }, redis_ranges: ofHundred.redis_ranges })
})

t.test('an instance gets the address and the CA of its Redis, and the options that its surroundings ask for', { skip: withoutTerraform }, async (t) => {
  const connection = (type: string, ip: string) => ({ psc_auto_connection: [{ connection_type: type, ip_address: ip, port: 6379 }] })
  // A cluster may list its primaries besides where it is discovered.
  const redis = (ip: string, type: string, ...cas: string[]) => ({
    endpoints: [{ connections: [connection('CONNECTION_TYPE_READER', '10.9.9.9'), connection(type, ip), ...type === 'CONNECTION_TYPE_DISCOVERY' ? [connection('CONNECTION_TYPE_PRIMARY', '10.9.9.8')] : []] }],
    managed_server_ca: [{ ca_certs: cas.map(ca => ({ certificates: [ca] })) }]
  })
  const always = {
    CLOUD_RUN_TIMEOUT_SECONDS: '3600', CLOUD_RUN_CONCURRENCY: '1000', CLOUD_RUN_MAX_INSTANCES: '100', REDIS_AUTH: 'iam', REDIS_CA_FILE: '/secrets/redis-ca/ca.pem'
  }
  const names = ['env', 'redis_cas']
  t.strictSame(await evaluate(t, names, { env: { SEATS: '4' } }, { 'us-central1': redis('10.64.63.250', 'CONNECTION_TYPE_PRIMARY', 'one', 'next') }), {
    env: { 'us-central1': { ...always, REDIS_URL: 'rediss://10.64.63.250:6379', SEATS: '4' } },
    redis_cas: { 'us-central1': 'one\nnext' }
  })

  const both = { regions: ['us-central1', 'europe-west1'], domain: 'chat.example.com' }
  const cluster = { 'us-central1': redis('10.0.0.1', 'CONNECTION_TYPE_DISCOVERY', 'us'), 'europe-west1': redis('10.0.0.2', 'CONNECTION_TYPE_DISCOVERY', 'eu') }
  const each = { ...always, REDIS_CLUSTER: 'true', TRUSTED_PROXIES: '1', REDIS_READINESS: 'always' }
  t.strictSame(await evaluate(t, names, { ...both, redis_shards: 3 }, cluster), {
    env: { 'us-central1': { ...each, REDIS_URL: 'rediss://10.0.0.1:6379' }, 'europe-west1': { ...each, REDIS_URL: 'rediss://10.0.0.2:6379' } },
    redis_cas: { 'us-central1': 'us', 'europe-west1': 'eu' }
  })

  const shared = { ...always, TRUSTED_PROXIES: '1', REDIS_URL: 'rediss://10.0.0.1:6379' }
  const { env } = await evaluate(t, names, { ...both, redis_region: 'us-central1' }, { 'us-central1': redis('10.0.0.1', 'CONNECTION_TYPE_PRIMARY', 'us') })
  t.strictSame(env, { 'us-central1': shared, 'europe-west1': shared })
})

t.test('Terraform reads the files of example/monitoring, with every word replaced', { skip: withoutTerraform }, async (t) => {
  const names = ['alerts', 'log_metrics', 'objectives', 'monitored_service']
  const made = await evaluate(t, names, { monitoring_folder: monitoring })
  const inFolder = (folder: string) => Object.keys(monitoringFiles).filter(name => name.startsWith(folder)).length
  t.ok(Object.keys(made.alerts).length >= inFolder('alerts/') && inFolder('alerts/') > 0)
  t.equal(Object.keys(made.objectives).length, inFolder('slo'))
  t.equal(Object.keys(made.log_metrics).length, inFolder('log-metrics/'))
  t.equal(made.monitored_service.displayName, 'chat WebSockets')
  t.match(made.alerts['bridge-down'], {
    displayName: 'chat: Bridge down',
    documentation: { content: /\(https:\/\/example\.com\/runbook\.md#bridge-down\)/ },
    conditions: [{ conditionPrometheusQueryLanguage: { query: /job="chat"/ } }]
  })
  t.notMatch(JSON.stringify(made), /\$\{(?!__)/)
})

t.test('what cannot work is refused before anything is planned', { skip: withoutTerraform }, async (t) => {
  const wrong: Array<[Block, RegExp]> = [
    [{ regions: ['us-central1', 'europe-west1'] }, /set domain/],
    [{ regions: [] }, /1 to 16 regions/],
    [{ min_instances: 0, regions: ['us-central1', 'europe-west1'], domain: 'chat.example.com' }, /at least 1/],
    [{ min_instances: 5, max_instances: 4 }, /must not be more than max_instances/],
    [{ concurrency: 1 }, /2 to 1000/],
    [{ timeout: 3601 }, /1 to 3600/],
    [{ redis_region: 'europe-west1' }, /must be one of regions/],
    [{ service: 'Chat' }, /lowercase letters/],
    [{ canary_percent: 5 }, /stable_revisions must name a revision/],
    [{ concurrency_target: 1 }, /0\.1 to 0\.95/],
    [{ address_range: '10.0.0.0/16' }, /at most 14/],
    [{ runbook: 'runbook.md' }, /https address/]
  ]
  for (const [values, says] of wrong) {
    const stderr = await evaluate(t, ['region_prefix'], values).then(() => 'nothing', (error: { stderr: string }) => error.stderr)
    t.match(stderr.replace(/[│\s]+/g, ' '), says, JSON.stringify(values))
  }
})

/** Runs Terraform with providers that know the arguments of Google's, and make nothing. */
async function withProviders (t: Test) {
  const folder = t.testdir()
  await cp(module, folder, { recursive: true })
  const env = { ...process.env, ...await startProviders(t) }
  const terraform = async (...args: string[]) => (await exec('terraform', [`-chdir=${folder}`, ...args], { env, maxBuffer: 2 ** 26 })).stdout
  await terraform('init', '-backend=false', '-input=false')
  return { folder, terraform }
}

/** What a plan with these variables would make, by address. */
async function plan (t: Test, values: Block): Promise<Record<string, Block>> {
  const { folder, terraform } = await withProviders(t)
  const given = { project: 'demo', image: 'image', runbook: 'https://example.com/runbook.md', monitoring_folder: monitoring, ...values }
  await writeFile(join(folder, 'terraform.tfvars.json'), JSON.stringify(given))
  await terraform('plan', '-input=false', '-refresh=false', '-out=plan')
  const { planned_values: { root_module: root } } = JSON.parse(await terraform('show', '-json', 'plan'))
  return Object.fromEntries(root.resources.map(({ address, values }: Block) => [address, values]))
}

t.test('terraform validate finds nothing, and would find a wrong argument', { skip: withoutTerraform }, async (t) => {
  const { folder, terraform } = await withProviders(t)
  t.match(await terraform('validate', '-no-color'), 'Success! The configuration is valid.')
  await writeFile(join(folder, 'service.tf'), read(module, 'service.tf').replace('session_affinity =', 'session_afinity ='))
  await t.rejects(terraform('validate', '-no-color'), /Unsupported argument/)
})

t.test('a plan makes every alert, log metric and objective as its file says', { skip: withoutTerraform }, async (t) => {
  const made = await plan(t, { billing_account: '012345-567890-ABCDEF' })
  const words = { SERVICE: 'chat', CLUSTER: '__run__', RUNBOOK: 'https://example.com/runbook.md' }
  const rendered = (name: string) => JSON.parse(Object.entries(words)
    .reduce((text, [word, value]) => text.replaceAll(`\${${word}}`, value), monitoringFiles[name]!))
  const names = Object.keys(monitoringFiles)
  for (const name of names.filter(name => name.startsWith('alerts/'))) {
    const [policy, file] = [made[`google_monitoring_alert_policy.this["${basename(name, '.json')}"]`]!, rendered(name)]
    const { displayName, severity, combiner, userLabels } = file
    t.match(policy, { display_name: displayName, severity, combiner, user_labels: userLabels }, name)
    const { content, subject } = file.documentation
    t.strictSame([policy.documentation[0].content, policy.documentation[0].subject], [content, subject])
    const queries = ({ conditions }: Block, kind: string, fields: string[]) => conditions.map((condition: Block) => {
      const inner = [condition[kind]].flat()[0]
      return fields.map(field => inner[field])
    })
    t.strictSame(
      queries(policy, 'condition_prometheus_query_language', ['query', 'duration', 'evaluation_interval', 'disable_metric_validation']),
      queries(file, 'conditionPrometheusQueryLanguage', ['query', 'duration', 'evaluationInterval', 'disableMetricValidation']), name)
  }
  for (const name of names.filter(name => name.startsWith('log-metrics/'))) {
    t.match(made[`google_logging_metric.this["${basename(name, '.json')}"]`], { name: rendered(name).name, filter: rendered(name).filter }, name)
  }
  for (const name of names.filter(name => name.startsWith('slo'))) {
    const { goal, displayName } = rendered(name)
    t.match(made[`google_monitoring_slo.this["${basename(name, '.json').replace(/^slo-/, '')}"]`], { goal, display_name: displayName, rolling_period_days: 28 }, name)
  }
  t.strictSame(JSON.parse(made['google_monitoring_dashboard.this']!.dashboard_json), rendered('dashboard.json'))
  t.match(made['google_billing_budget.this[0]'], { threshold_rules: { length: 4 } })
  t.notMatch(Object.keys(made).join(), /google_compute_(backend|global)/, 'no load balancer without a domain')
})

t.test('a plan with two regions and a canary makes all of it in both', { skip: withoutTerraform }, async (t) => {
  const regions = ['us-central1', 'europe-west1']
  const made = await plan(t, {
    regions, domain: 'chat.example.com', canary_percent: 5, stable_revisions: { 'us-central1': 'chat-1', 'europe-west1': 'chat-2' }
  })
  for (const region of regions) {
    const service = made[`google_cloud_run_v2_service.this["${region}"]`]!
    t.equal(service.ingress, 'INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER')
    t.match(service.traffic, [{ percent: 5, type: /LATEST$/ }, { percent: 95, revision: region === 'us-central1' ? 'chat-1' : 'chat-2', type: /REVISION$/ }])
    t.ok(made[`google_memorystore_instance.redis["${region}"]`])
    t.ok(made[`google_compute_region_network_endpoint_group.run["${region}"]`])
  }
  t.equal(made['google_compute_backend_service.this[0]']!.backend.length, 2)
  t.notMatch(JSON.stringify(made), /"secret"(?!:)/, 'the secret for tokens is in no plan')
})
