import { parse } from '@lukeed/ms'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { likelyMeant } from '../../model/spelling.ts'
import { describe } from '../../util/thrown.ts'
import { UsageError } from '../command.ts'
import { DEFAULTS, LIMITS } from './usage.ts'

export interface LoadOptions {
  /** Where clients connect: ws or wss, with the route in it. */
  readonly url: string
  readonly protocol: 'sdk' | 'plain'
  readonly connections: number
  /** Milliseconds over which the clients connect. */
  readonly ramp: number
  /** Milliseconds of traffic, after the ramp. */
  readonly duration: number
  readonly channels: number
  readonly channelPrefix: string
  /** Channels per client. */
  readonly subscriptions: number
  /** Publications a second, of all clients together. */
  readonly publish: number
  /** Bytes of JSON in a publication. */
  readonly size: number
  readonly headers: Readonly<Record<string, string>>
  readonly origin: string | undefined
  readonly token: string | undefined
  readonly tokenSecret: string | undefined
  readonly tokenClaims: Readonly<Record<string, unknown>>
  readonly maxLost: number
  /** Milliseconds; undefined without a limit. */
  readonly maxP99: number | undefined
  readonly json: boolean
  readonly seed: number
}

const config = {
  url: { type: 'string' },
  path: { type: 'string' },
  protocol: { type: 'string', default: 'sdk' },
  connections: { type: 'string', default: DEFAULTS.connections },
  ramp: { type: 'string' },
  duration: { type: 'string', default: DEFAULTS.duration },
  channels: { type: 'string', default: DEFAULTS.channels },
  'channel-prefix': { type: 'string', default: DEFAULTS.channelPrefix },
  subscriptions: { type: 'string', default: DEFAULTS.subscriptions },
  publish: { type: 'string', default: DEFAULTS.publish },
  size: { type: 'string', default: DEFAULTS.size },
  header: { type: 'string', multiple: true, default: [] as string[] },
  origin: { type: 'string' },
  token: { type: 'string' },
  'token-secret': { type: 'string' },
  'token-secret-file': { type: 'string' },
  'token-claims': { type: 'string', default: '{}' },
  'max-lost': { type: 'string', default: '0' },
  'max-p99': { type: 'string' },
  json: { type: 'boolean', default: false },
  seed: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false }
} as const

type Values = ReturnType<typeof parseArgs<{ options: typeof config }>>['values']

const PROTOCOLS = ['sdk', 'plain'] as const
const ROUTES = { sdk: '/connection/websocket', plain: '/ws' }
/** How clients reach what is given with the scheme of a web page. */
const SCHEMES: Readonly<Record<string, string>> = { 'ws:': 'ws:', 'wss:': 'wss:', 'http:': 'ws:', 'https:': 'wss:' }
/** A header's name, as HTTP allows it (RFC 9110, 5.6.2), and its value. */
const HEADER = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([\t\x20-\x7e]*)$/
/** Headers that frame the upgrade: with others, Node throws or the server hangs up. */
const OWN_HEADER = /^(?:connection|upgrade|content-length|transfer-encoding|trailer|expect|sec-websocket-.*)$/i

/** Reads the arguments; undefined if they ask for help. @throws UsageError */
export function readOptions (args: readonly string[]): LoadOptions | undefined {
  const values = parsed(args)
  if (values.help) return undefined
  const protocol = PROTOCOLS.find(one => one === values.protocol)
  if (protocol === undefined) throw wrong('protocol', values.protocol, 'sdk or plain')
  const connections = count('connections', values.connections, 1, LIMITS.connections)
  const channels = count('channels', values.channels, 1, LIMITS.channels)
  const subscriptions = count('subscriptions', values.subscriptions, 1, LIMITS.subscriptions)
  if (subscriptions > channels) throw wrong('subscriptions', values.subscriptions, `at most --channels, which is ${channels}`)
  const rampDefault = Math.ceil(connections / LIMITS.defaultConnectsPerSecond) * 1_000
  return {
    url: address(values.url, values.path ?? ROUTES[protocol], values.path !== undefined),
    protocol,
    connections,
    ramp: values.ramp === undefined ? rampDefault : duration('ramp', values.ramp, 1, LIMITS.ramp),
    duration: duration('duration', values.duration, 1_000, LIMITS.duration),
    channels,
    channelPrefix: channelPrefix(values['channel-prefix']),
    subscriptions,
    publish: count('publish', values.publish, 0, LIMITS.publish),
    size: count('size', values.size, LIMITS.minSize, LIMITS.size),
    headers: Object.fromEntries(values.header.map(header)),
    origin: values.origin === undefined ? undefined : origin(values.origin),
    ...tokenOptions(values),
    maxLost: count('max-lost', values['max-lost'], 0, Number.MAX_SAFE_INTEGER),
    maxP99: values['max-p99'] === undefined ? undefined : duration('max-p99', values['max-p99'], 1, LIMITS.duration),
    json: values.json,
    seed: values.seed === undefined ? Math.floor(Math.random() * LIMITS.seed) : count('seed', values.seed, 0, LIMITS.seed)
  }
}

function parsed (args: readonly string[]): Values {
  try {
    return parseArgs({ args: [...args], options: config }).values
  } catch (error) {
    const unknown = /Unknown option '--([^']+)'/.exec(describe(error))?.[1]
    const meant = unknown === undefined ? undefined : likelyMeant(unknown, Object.keys(config))
    throw new UsageError(meant === undefined ? `${describe(error)}. See load --help` : `unknown option --${unknown}. Did you mean --${meant}?`)
  }
}

/** There is no default, and no environment variable is read: traffic goes only where its sender has said. */
function address (value: string | undefined, path: string, override: boolean): string {
  if (value === undefined) throw new UsageError('load needs --url, the address of your own service, such as wss://chat.example.com')
  const scheme = URL.canParse(value) ? SCHEMES[new URL(value).protocol] : undefined
  if (scheme === undefined) throw wrong('url', value, 'a URL that starts with ws://, wss://, http:// or https://')
  const url = new URL(value)
  if (url.username !== '' || url.password !== '') throw new UsageError("--url must not contain a user or a password. Use --header 'authorization: …'")
  if (!/^\/[^#]*$/.test(path)) throw wrong('path', path, "a path that starts with '/' and has no '#'")
  url.hash = ''
  const { pathname, search } = url
  const route = override || pathname === '/' ? path : pathname
  return `${scheme}//${url.host}${route}${override && path.includes('?') ? '' : search}`
}

function channelPrefix (value: string): string {
  if (/^[^\s#:]+:[^\s#]*$/.test(value)) return value
  throw wrong('channel-prefix', value, "a namespace and a colon, such as 'load:'")
}

function origin (value: string): string {
  if (/^[\x21-\x7e]+$/.test(value)) return value
  throw wrong('origin', value, "an origin as browsers send it, such as 'https://chat.example.com' (other letters in Punycode)")
}

function header (value: string): [string, string] {
  const [, name, content] = HEADER.exec(value) ?? []
  if (name === undefined || content === undefined) throw new UsageError("--header must be 'name: value', such as 'cookie: session=1'")
  if (OWN_HEADER.test(name)) throw new UsageError(`--header must not set ${name}: the upgrade has its own`)
  return [name, content]
}

function tokenOptions (values: Values): Pick<LoadOptions, 'token' | 'tokenSecret' | 'tokenClaims'> {
  const { token, 'token-secret': secret, 'token-secret-file': file, 'token-claims': claims } = values
  if ([token, secret, file].filter(value => value !== undefined).length > 1) {
    throw new UsageError('use only one of --token, --token-secret and --token-secret-file')
  }
  const tokenSecret = file === undefined ? secret : secretFrom(file)
  if (tokenSecret !== undefined && Buffer.byteLength(tokenSecret) < LIMITS.minSecret) {
    throw new UsageError(`the token secret has ${Buffer.byteLength(tokenSecret)} bytes; the plugin needs at least ${LIMITS.minSecret}`)
  }
  return { token, tokenSecret, tokenClaims: object('token-claims', claims) }
}

function secretFrom (file: string): string {
  try {
    return readFileSync(file, 'utf8').trimEnd()
  } catch (error) {
    throw new UsageError(`--token-secret-file: ${describe(error)}`)
  }
}

function object (name: string, value: string): Record<string, unknown> {
  const allowed = 'a JSON object, such as \'{"aud":"chat"}\''
  try {
    const content: unknown = JSON.parse(value)
    if (typeof content === 'object' && content !== null && !Array.isArray(content)) return { ...content }
  } catch {
    throw wrong(name, value, allowed) // it is no JSON
  }
  throw wrong(name, value, allowed)
}

function count (name: string, value: string, min: number, max: number): number {
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN
  if (number >= min && number <= max) return number
  throw wrong(name, value, `a whole number from ${min} to ${max}`)
}

function duration (name: string, value: string, min: number, max: number): number {
  const ms = parse(value)
  if (ms !== undefined && ms >= min && ms <= max) return Math.round(ms)
  throw wrong(name, value, `a duration from ${min} ms to ${max / 60_000} min, such as '30s', '5m' or '250ms'`)
}

function wrong (name: string, value: string, allowed: string): UsageError {
  return new UsageError(`--${name} is '${value}'. It must be ${allowed}`)
}
