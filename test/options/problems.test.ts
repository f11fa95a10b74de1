import Fastify from 'fastify'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { secretOf } from '../helpers/secrets.ts'

/** The error for these options. */
function problem (options: unknown, env: NodeJS.ProcessEnv = {}): Error & { code?: string } {
  try {
    resolveOptions(options as Options, env)
  } catch (error) {
    return error as Error
  }
  throw new Error('these options are right')
}

t.test('a misspelt option is named together with the one that was likely meant', async (t) => {
  for (const [options, text] of [
    [{ maxConnection: 1 }, 'Unknown option "maxConnection". Did you mean `maxConnections`? Known options: path, sdkPath, '],
    [{ onmessage: () => {} }, 'Unknown option "onmessage". Did you mean `onMessage`? Known options: '],
    [{ allowOrigins: [] }, 'Unknown option "allowOrigins". Did you mean `allowedOrigins`? Known options: '],
    [{ heartbeat: { timout: 1 } }, 'Unknown option "heartbeat.timout". Did you mean `heartbeat.timeout`? Known options: heartbeat.interval, heartbeat.timeout'],
    [{ channels: { chat: { histroy: {} } } }, 'Unknown option "channels.chat.histroy". Did you mean `channels.chat.history`? Known options: '],
    [{ bananas: 1 }, 'Unknown option "bananas". Known options: path, ']
  ] as const) {
    const { code, message } = problem(options)
    t.equal(code, 'FST_CRWS_UNKNOWN_OPTION')
    t.equal(message.slice(0, text.length), text)
  }
})

t.test('one error names everything that is wrong, at any depth and in the environment', async (t) => {
  const { code, message } = problem({
    maxConnection: 1,
    bananas: 1,
    heartbeat: { interval: 'soon', timeout: -1 },
    channels: { 'chat:room': {}, chat: { histroy: {}, presence: 1 } },
    allowedOrigins: ['a.example', 'https://b.example', 1],
    token: { issuer: 'i' },
    rateLimit: { messages: { max: 1 } }
  }, { REDIS_URL: 'localhost', CLOUD_RUN_TIMEOUT_SECONDS: '5m' })
  t.equal(code, 'FST_CRWS_INVALID_OPTION')
  const [head, ...lines] = message.split('\n')
  t.equal(head, '13 options are wrong:')
  t.strictSame(lines.map(line => /^- (?:Unknown|Invalid) option "([^"]+)"/.exec(line)?.[1]).toSorted(), [
    'allowedOrigins', 'allowedOrigins', 'bananas', 'channels', 'channels.chat.histroy', 'channels.chat.presence', 'heartbeat.interval',
    'heartbeat.timeout', 'maxConnection', 'rateLimit.messages.timeWindow', 'redis (env REDIS_URL)', 'requestTimeout (env CLOUD_RUN_TIMEOUT_SECONDS)', 'token'
  ])
  t.ok(lines.includes('- Unknown option "maxConnection". Did you mean `maxConnections`?'), 'a suggestion stands for the list of known names')
  t.ok(lines.some(line => line.startsWith('- Unknown option "bananas". Known options: path, sdkPath, ')))
})

t.test('several misspelt options and nothing else are one error of unknown options', async (t) => {
  const { code, message } = problem({ maxConnection: 1, shutdown: { signal: true } })
  t.equal(code, 'FST_CRWS_UNKNOWN_OPTION')
  t.equal(message, '2 options are wrong:\n' +
    '- Unknown option "maxConnection". Did you mean `maxConnections`?\n' +
    '- Unknown option "shutdown.signal". Did you mean `shutdown.signals`?')
})

t.test('what is no problem of an option is thrown as it is', async (t) => {
  const options = { heartbeat: { get interval () { throw new Error('from a getter') } } }
  t.throws(() => resolveOptions(options as never, {}), { message: 'from a getter' })
})

t.test('a value that is there and undefined reads as a variable that is not set', async (t) => {
  const unset = /is it read from an environment variable that is not set\?/
  for (const [options, name] of [
    [{ token: { secret: undefined } }, 'token.secret'],
    [{ token: { jwksUrl: undefined, issuer: 'i' } }, 'token.jwksUrl'],
    [{ token: { secret: [secretOf('new'), undefined] } }, 'token.secret'],
    [{ redis: { url: undefined } }, 'redis.url'],
    [{ redis: { socket: { host: undefined } } }, 'redis.socket.host'],
    [{ redis: { rootNodes: [{ url: undefined }] } }, 'redis.rootNodes.url'],
    [{ allowedOrigins: [undefined] }, 'allowedOrigins'],
    [{ rateLimit: { messages: { max: undefined, timeWindow: 1 } } }, 'rateLimit.messages.max']
  ] as const) {
    const { code, message } = problem(options)
    t.equal(code, 'FST_CRWS_INVALID_OPTION', name)
    t.match(message, `Invalid option "${name}": got undefined (is`)
    t.match(message, unset)
  }
  t.notMatch(problem({ token: {} }).message, unset)
  t.notMatch(problem({ rateLimit: { messages: { timeWindow: 1 } } }).message, unset, 'nobody has tried to set it')
})

t.test('register rejects with all of it', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(async () => await app.register(cloudRunWebSocket, { maxConnections: 0, maxPayload: 0 }), {
    code: 'FST_CRWS_INVALID_OPTION', message: /^2 options are wrong:\n- Invalid option "maxConnections".*\n- Invalid option "maxPayload"/
  })
})
