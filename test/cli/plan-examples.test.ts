import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { parse } from 'yaml'
import { ADDRESSES, FLEX, POD, SCRIPT_TARGET } from '../../lib/cli/plan/assumptions.ts'
import { planOf, runPlan } from '../helpers/plan.ts'

const path = (file: string) => fileURLToPath(new URL(`../../example/${file}`, import.meta.url))
const read = (file: string) => readFileSync(path(file), 'utf8')
const script = path('cloud-run/deploy.sh')

t.test('pods are as large, and as many, as example/gke has them', async (t) => {
  const { minReplicas, metrics } = parse(read('gke/base/autoscaler.yaml')).spec
  t.equal(POD.least, minReplicas)
  t.equal(POD.target, Number(metrics[0].external.target.averageValue))
  t.match(read('gke/base/settings.env'), /^MAX_CONNECTIONS=4000$/m)
  t.equal(POD.maxAge, 3_600 * Number(/maxConnectionAge: '(\d+)h'/.exec(read('gke/server.mjs'))![1]))
  const { requests } = parse(read('gke/base/deployment.yaml')).spec.template.spec.containers[0].resources
  const { vcpu, memory } = planOf().input
  t.strictSame(requests, { cpu: String(vcpu), memory: `${memory}Gi` })
})

t.test('App Engine instances are as large, and as many, as example/app-engine has them', async (t) => {
  const app = parse(read('app-engine/app.yaml'))
  t.strictSame(FLEX, {
    target: app.automatic_scaling.target_concurrent_requests,
    least: app.automatic_scaling.min_num_instances,
    memory: app.resources.memory_gb,
    disk: app.resources.disk_size_gb
  })
  t.equal(app.env_variables.MAX_CONNECTIONS, '1500')
  t.equal(planOf().input.vcpu, app.resources.cpu)
})

/** What deploy.sh prints with --dry-run, which asks nobody. */
async function dryRun (options: readonly string[]): Promise<string> {
  const args = [script, '--project', 'demo', ...options, '--dry-run']
  return (await promisify(execFile)('bash', args, { env: { PATH: process.env.PATH } })).stdout
}

const redisOf = (options: readonly string[]) => options.filter(option => /^--(redis|cluster)/.test(option))

t.test('deploy.sh takes the options of the plan, and makes a service with its flags and its Redis', async (t) => {
  const plans: [string, string[], RegExp][] = [
    ['--connections 20000', ['--redis-node=standard-small', '--redis-replicas=1'], /--mode=cluster-disabled --shard-count=1 --replica-count=1/],
    ['--connections 250000 --replicas 2', ['--redis-node=standard-small', '--redis-replicas=2', '--cluster-mode', '--redis-shards=5'],
      /--mode=cluster --shard-count=5 --replica-count=2/],
    ['--connections 5000 --redis redis --memory 0.5', ['--redis=redis', '--redis-tier=standard', '--redis-size=1'], /redis instances create .*--tier=standard/],
    ['--connections 5000 --redis redis --replicas 0 --vcpu 2', ['--redis=redis', '--redis-tier=basic', '--redis-size=1'], /redis instances create .*--tier=basic/],
    ['--connections 800000 --messages 1 --channel-size 1 --min-instances 0 --concurrency 900', ['--redis-node=highmem-medium', '--redis-replicas=1', '--cluster-mode', '--redis-shards=3'], /--max-instances=1000/]
  ]
  for (const [args, redis, made] of plans) {
    const { deploy, flags } = planOf(args).settings
    t.strictSame(redisOf(deploy), redis, args)
    const printed = await dryRun(deploy)
    t.match(printed, made, args)
    for (const flag of flags.filter(flag => !flag.startsWith('--update-env-vars='))) t.ok(printed.includes(` ${flag} `), `${args}: ${flag}`)
    t.ok(printed.includes(flags.at(-1)!), args)
  }
})

t.test('no Redis is named where none carries the load', async (t) => {
  t.strictSame(redisOf(planOf('--connections 250000 --redis redis').settings.deploy), [])
})

t.test('the printed line is the one that was tried', async (t) => {
  const { stdout } = await runPlan('--connections', '20000')
  const [line] = / {2}example\/cloud-run\/deploy\.sh [^]*?\n\n/.exec(stdout)!
  t.strictSame(line.trim().split(/[\s\\]+/), ['example/cloud-run/deploy.sh', '--project', 'PROJECT', ...planOf('--connections 20000').settings.deploy])
})

t.test("deploy.sh's scaling target and addresses are those of the plan", async (t) => {
  t.match(read('cloud-run/deploy/service.sh'), `--scaling-concurrency-target=${SCRIPT_TARGET})`)
  t.equal(planOf().input.target, SCRIPT_TARGET)
  t.match(read('cloud-run/deploy/options.sh'), `it needs ${ADDRESSES} addresses for each of --max-instances`)
})
