import { count, counted, dollars, percent, rate, smallDollars, table, wrap } from './format.ts'
import type { Plan } from './plan.ts'
import type { Platform } from './platforms.ts'
import type { Redis } from './redis.ts'

/** The plan as people read it in a terminal. */
export function report (plan: Plan): string {
  return [what(plan), decision(plan), cloudRun(plan), redis(plan), costs(plan), migration(plan), warnings(plan), sources(plan)].join('\n\n') + '\n'
}

function what ({ input }: Plan): string {
  const { connections, average, messages, channelSize, size, region } = input
  const mean = average === connections ? 'all month' : `${count(average)} on average over the month`
  const channel = channelSize === Infinity ? 'all connections' : counted(channelSize, 'connection')
  return wrap(`${counted(connections, 'connection')} (${mean}) in ${region}; ${rate(messages)} messages/s of ${count(size)} bytes, each to ${channel}`, '')
}

const OPTIONS_A_LINE = 4

const names = { 'cloud-run': 'Cloud Run', gke: 'GKE' } as const

function decision ({ decision: { platform, reasons, saving } }: Plan): string {
  const lines = reasons.map(reason => wrap(reason.text, `  ${reason.platform === platform ? '+' : '-'} `))
  if (saving !== undefined) {
    lines.push(saving >= 0
      ? `    GKE would cost ${dollars(saving)} less a month, not counting the people who run it.`
      : `    GKE would cost ${dollars(-saving)} more a month, not counting the people who run it.`)
  }
  return [`DECISION: ${names[platform]}`, ...lines].join('\n')
}

function cloudRun ({ platforms, settings, input }: Plan): string {
  const { instances, cores, memory, deployment } = platforms[0]!
  const { prefix, addresses } = settings.subnet
  return `CLOUD RUN
${table([
  ['instances at the peak', count(instances.peak)],
  ['instances on average', count(instances.mean)],
  ['connections per instance', `${count(instances.perInstance)} of ${count(input.concurrency)}`],
  ['CPU per instance at the peak, at most', `${percent(cores)} of a core`],
  ['memory per instance, without your app', `${count(memory / 2 ** 20)} MiB`],
  ['maxConnections', count(settings.maxConnections)],
  ['subnet', `/${prefix} or larger (${count(addresses)} addresses)`],
  ['a deployment costs, at most', deployment === undefined ? '-' : `$${deployment.toFixed(2)}`]
])}

  ${command(settings.deploy)}`
}

/** One line of a shell, broken after every fourth option. */
function command (options: readonly string[]): string {
  const lines = Array.from({ length: Math.ceil(options.length / OPTIONS_A_LINE) }, (_, i) => options.slice(i * OPTIONS_A_LINE, (i + 1) * OPTIONS_A_LINE).join(' '))
  return ['example/cloud-run/deploy.sh --project PROJECT', ...lines].join(' \\\n    ')
}

function redis ({ platforms, model }: Plan): string {
  const { product, nodeType, shards, replicas, load, oneCore }: Redis = platforms[0]!.redis
  const size = shards === undefined ? '-' : `${count(shards)} x ${nodeType}, ${replicas === 0 ? 'no replica' : `${counted(replicas, 'replica')} each`}`
  return `REDIS for Cloud Run, from the model
${table([
  ['product', product],
  ['size', size],
  ['commands/s', rate(load.commands)],
  ['messages/s to instances', rate(load.messages)],
  ['CPU, of one core', `${percent(load.coresAtBest)} to ${percent(load.cores)}`],
  ['memory for keys and links', `${count(load.memoryBytes / 2 ** 20)} MiB`],
  ['one core is 60% full at', `${count(oneCore.at60Percent)} connections`],
  ['one core is full at', `${count(oneCore.full)} connections`]
])}
${wrap(`Costs per command and per delivery were measured on ${model.date} (${model.machine}).`, '  ')}`
}

/** Names of the parts of all platforms, in their order. */
export function partNames (platforms: readonly Platform[]): string[] {
  const first = ['instances', 'free tier', 'cluster', 'load balancer', 'Redis', 'egress', 'logs', 'metrics']
  const all = new Set(platforms.flatMap(({ parts }) => parts.map(({ name }) => name)))
  return [...first.filter(name => all.has(name)), ...[...all].filter(name => !first.includes(name))]
}

function costs ({ platforms }: Plan): string {
  const cell = (platform: Platform, name: string) => {
    const part = platform.parts.find(part => part.name === name)
    return part === undefined ? '' : dollars(part.month)
  }
  const total = ({ month, unknown }: Platform) => `${unknown.length > 0 ? '> ' : ''}${dollars(month)}`
  const counts = ({ instances, nodes }: Platform) => `${count(instances.peak)}${nodes === undefined ? '' : ` on ${count(nodes)}`}`
  return `COST in US dollars a month
${table([
  ['', ...platforms.map(({ name }) => name)],
  ['instances or pods (on nodes)', ...platforms.map(counts)],
  ...partNames(platforms).map(name => [name, ...platforms.map(platform => cell(platform, name))]),
  ['total', ...platforms.map(total)],
  ['per connection', ...platforms.map(({ perConnection }) => smallDollars(perConnection))]
])}`
}

function migration ({ migration }: Plan): string {
  const lines = migration.flatMap(({ name, connections, here, what, cloudRun, gke }) => [
    wrap(`${name} connections: ${what}`, here ? '  > ' : '    '),
    `      ${count(connections)}: Cloud Run ${counted(cloudRun.instances, 'instance')}, ${dollars(cloudRun.month)}; ` +
      `GKE ${count(gke.pods)} pods on ${count(gke.nodes)} nodes, ${dollars(gke.month)}`
  ])
  return ['MIGRATION PATH', ...lines].join('\n')
}

function warnings ({ warnings }: Plan): string {
  return ['WARNINGS', ...warnings.map(warning => wrap(warning, '  ! '))].join('\n')
}

function sources ({ prices: { first, last, overridden } }: Plan): string {
  const own = overridden.length === 0 ? '' : ` Yours: ${overridden.join(', ')}.`
  return wrap(`Prices were read between ${first} and ${last}. Check Google's own before you decide.${own}`, '')
}
