import { parseArgs } from 'node:util'
import { UsageError } from '../command.ts'
import type { Input } from './input.ts'

/** Of an option that has a value: its unit, its default as it would be typed, and what it is. */
interface Valued { unit: string, default: string, is: string }

const valued = {
  connections: { unit: 'N', default: '10000', is: 'connections open at once at the peak' },
  average: { unit: 'N|N%', default: '100%', is: 'connections open on average over the month; instances scale in when fewer are open' },
  users: { unit: 'N', default: '', is: 'users at the peak, instead of --connections' },
  tabs: { unit: 'N', default: '1', is: 'connections of each user: tabs and devices' },
  'messages-each': { unit: 'N', default: '2', is: 'messages published per minute for each open connection' },
  messages: { unit: 'N', default: '', is: 'messages published per second in total at the peak, instead of --messages-each' },
  'channel-size': { unit: 'N|all', default: '50', is: 'connections in a channel, which get each of its messages' },
  channels: { unit: 'N', default: '1', is: 'channels that each connection is in' },
  size: { unit: 'BYTES', default: '200', is: 'size of a message' },
  history: { unit: 'N', default: '100', is: 'publications that each channel keeps; 0 for none' },
  region: { unit: 'REGION', default: 'us-central1', is: 'region of the service and of Redis' },
  target: { unit: 'SHARE', default: '0.9', is: "share of the concurrency to which Cloud Run fills an instance; Cloud Run's own default is 0.6" },
  concurrency: { unit: 'N', default: '1000', is: 'concurrent requests of a Cloud Run instance' },
  'per-instance': { unit: 'N', default: '', is: 'connections of a Cloud Run instance, whatever --target and CPU say' },
  vcpu: { unit: 'N', default: '1', is: 'vCPUs of an instance or pod' },
  memory: { unit: 'GIB', default: '1', is: 'memory of an instance or pod' },
  'min-instances': { unit: 'N', default: '1', is: 'instances that Cloud Run keeps without clients' },
  redis: { unit: 'valkey|redis', default: 'valkey', is: 'Memorystore for Valkey, or Memorystore for Redis' },
  replicas: { unit: 'N', default: '1', is: 'replicas of each shard of Redis' },
  lifetime: { unit: 'MINUTES', default: '60', is: 'how long a connection must be able to stay open' },
  traffic: { unit: 'steady|bursty', default: '', is: 'kind of load, for the decision; bursty if the average is at most half the peak' },
  prices: { unit: 'FILE', default: '', is: 'JSON file with your own prices' },
  svg: { unit: 'FILE', default: '', is: 'file to write the charts to' }
} as const satisfies Record<string, Valued>

const switches = {
  presence: 'channels have presence',
  sdk: "clients use Centrifugal's SDKs",
  kubernetes: 'your team runs Kubernetes',
  'load-balancer': 'there is a load balancer in front of Cloud Run',
  json: 'print the plan as JSON',
  help: 'print this help'
} as const

type ValuedName = keyof typeof valued

export interface Options {
  help: boolean
  json: boolean
  svg: string | undefined
  /** File of --prices. */
  prices: string | undefined
  input: Input
}

export function usage (): string {
  const rows = [
    ...Object.entries(valued).map(([name, { unit, default: given, is }]) => [`--${name} ${unit}`, given === '' ? is : `${is} (${given})`]),
    ...Object.entries(switches).map(([name, is]) => [`--${name}`, is])
  ]
  const width = Math.max(...rows.map(([option]) => option!.length))
  return `Usage: fastify-cloud-run-websocket plan [options]

Calculates what a service needs and costs a month on Cloud Run, GKE and App Engine. Works offline: prices come from a dated file.

${rows.map(([option, is]) => `  ${option!.padEnd(width)}  ${is}`).join('\n')}
`
}

/** @throws UsageError */
export function parseOptions (args: readonly string[]): Options {
  const values = new Values(read(args))
  const tabs = values.number('tabs', whole(1))
  const users = values.optional('users', whole(1))
  if (users !== undefined && values.has('connections')) throw new UsageError('--users and --connections exclude each other: the connections are users times tabs')
  const connections = users === undefined ? values.number('connections', whole(1, 10_000_000)) : users * tabs
  if (values.has('messages') && values.has('messages-each')) throw new UsageError('--messages and --messages-each exclude each other')
  const input: Input = {
    connections,
    average: averageOf(values.text('average'), connections),
    messages: values.optional('messages', atLeast(0)) ?? values.number('messages-each', atLeast(0)) * connections / 60,
    channelSize: values.text('channel-size') === 'all' ? Infinity : values.number('channel-size', { ...whole(1), allowed: 'a whole number from 1, or all' }),
    channels: values.number('channels', whole(1, 1_000)),
    size: values.number('size', whole(1, 1 << 20)),
    history: values.number('history', whole(0, 100_000)),
    presence: values.is('presence'),
    sdk: values.is('sdk'),
    region: values.matching('region', /^[a-z]+-[a-z]+\d+$/, 'a region, such as europe-west1'),
    target: values.number('target', between(0.1, 0.95)),
    concurrency: values.number('concurrency', whole(2, 1_000)),
    perInstance: values.optional('per-instance', whole(1, 1_000)),
    vcpu: values.number('vcpu', { allowed: '1, 2, 4, 6 or 8', fits: number => [1, 2, 4, 6, 8].includes(number) }),
    memory: values.number('memory', between(0.5, 32)),
    minInstances: values.number('min-instances', whole(0, 1_000)),
    redis: values.matching('redis', /^(valkey|redis)$/, 'valkey or redis') as Input['redis'],
    replicas: values.number('replicas', whole(0, 5)),
    loadBalancer: values.is('load-balancer'),
    lifetime: values.number('lifetime', whole(1, 1_440)),
    traffic: values.has('traffic') ? values.matching('traffic', /^(steady|bursty)$/, 'steady or bursty') as Input['traffic'] : 'unknown',
    kubernetes: values.is('kubernetes'),
    tabs
  }
  return { help: values.is('help'), json: values.is('json'), svg: values.given('svg'), prices: values.given('prices'), input }
}

function read (args: readonly string[]) {
  const options = {
    ...Object.fromEntries(Object.keys(valued).map(name => [name, { type: 'string' as const }])),
    ...Object.fromEntries(Object.keys(switches).map(name => [name, { type: 'boolean' as const }]))
  }
  try {
    return parseArgs({ args: [...args], options, allowPositionals: false }).values
  } catch (error) {
    // Node.js says what is wrong with the arguments.
    throw new UsageError(`plan: ${(error as Error).message}. plan --help lists the options`)
  }
}

interface Range { allowed: string, fits (number: number): boolean }

const whole = (least: number, most = Number.MAX_SAFE_INTEGER): Range => ({
  allowed: most === Number.MAX_SAFE_INTEGER ? `a whole number from ${least}` : `a whole number from ${least} to ${most}`,
  fits: number => Number.isInteger(number) && number >= least && number <= most
})
const between = (least: number, most: number): Range => ({
  allowed: `a number from ${least} to ${most}`,
  fits: number => number >= least && number <= most
})
const atLeast = (least: number): Range => ({ allowed: `a number from ${least}`, fits: number => number >= least && number < Infinity })

const wrong = (name: string, value: string, allowed: string) => new UsageError(`--${name} is ${JSON.stringify(value)}. Allowed: ${allowed}`)

function averageOf (text: string, connections: number): number {
  const [, digits = '', sign] = /^(\d+(?:\.\d+)?)(%?)$/.exec(text) ?? []
  const number = sign === '%' ? Number(digits) / 100 * connections : Number(digits)
  if (digits === '' || number === 0 || number > connections) throw wrong('average', text, 'a number up to that of the connections, or a percentage of it such as 40%')
  return number
}

/** What was given, and the defaults of what was not. */
class Values {
  readonly #values: Readonly<Record<string, string | boolean | undefined>>

  constructor (values: Readonly<Record<string, string | boolean | undefined>>) {
    this.#values = values
  }

  has (name: ValuedName): boolean {
    return this.#values[name] !== undefined
  }

  is (name: keyof typeof switches): boolean {
    return this.#values[name] === true
  }

  given (name: ValuedName): string | undefined {
    return this.#values[name] as string | undefined
  }

  text (name: ValuedName): string {
    return this.given(name) ?? valued[name].default
  }

  number (name: ValuedName, { allowed, fits }: Range): number {
    const text = this.text(name)
    const number = text.trim() === '' ? NaN : Number(text)
    if (!fits(number)) throw wrong(name, text, allowed)
    return number
  }

  optional (name: ValuedName, range: Range): number | undefined {
    return this.has(name) ? this.number(name, range) : undefined
  }

  matching (name: ValuedName, pattern: RegExp, allowed: string): string {
    const text = this.text(name)
    if (!pattern.test(text)) throw wrong(name, text, allowed)
    return text
  }
}
