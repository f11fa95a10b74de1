import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { UsageError } from '../../lib/cli/command.ts'
import { load } from '../../lib/cli/load/command.ts'
import { readOptions } from '../../lib/cli/load/options.ts'
import { USAGE } from '../../lib/cli/load/usage.ts'
import { announcement, checkFiles, openFileLimit } from '../../lib/cli/load/warnings.ts'
import { fakeTerminal } from '../helpers/load.ts'

const URL_ARGS = ['--url', 'wss://chat.example.com']
const SECRET = 'a secret of more than thirty-two bytes'

t.test('defaults', async (t) => {
  const { seed, ...options } = readOptions(URL_ARGS)!
  t.strictSame(options, {
    url: 'wss://chat.example.com/connection/websocket',
    protocol: 'sdk',
    connections: 100,
    ramp: 2_000,
    duration: 60_000,
    channels: 10,
    channelPrefix: 'load:',
    subscriptions: 1,
    publish: 10,
    size: 128,
    headers: {},
    origin: undefined,
    token: undefined,
    tokenSecret: undefined,
    tokenClaims: {},
    maxLost: 0,
    maxP99: undefined,
    json: false
  })
  t.ok(Number.isInteger(seed))
})

t.test('the address is the one that is given, with the route of the protocol', async (t) => {
  const urls: Array<[string[], string]> = [
    [['--url', 'https://a.example'], 'wss://a.example/connection/websocket'],
    [['--url', 'http://a.example:8080/', '--protocol', 'plain'], 'ws://a.example:8080/ws'],
    [['--url', 'ws://a.example/own?x=1#y'], 'ws://a.example/own?x=1'],
    [['--url', 'ws://a.example/own?x=1', '--path', '/other'], 'ws://a.example/other?x=1'],
    [['--url', 'ws://a.example/own?x=1', '--path', '/other?y=2'], 'ws://a.example/other?y=2']
  ]
  for (const [args, url] of urls) t.equal(readOptions(args)!.url, url)
})

t.test('what is given is taken', async (t) => {
  const file = join(t.testdir(), 'secret')
  writeFileSync(file, `${SECRET}\n`)
  const options = readOptions([
    ...URL_ARGS, '--connections', '5000', '--ramp', '90s', '--duration', '10m', '--channels', '50', '--channel-prefix', 'room:load-',
    '--subscriptions', '3', '--publish', '500', '--size', '1000', '--header', 'Cookie: a=b', '--header', 'X-Empty:', '--origin', 'https://a.example',
    '--token-secret-file', file, '--token-claims', '{"aud":"x"}', '--max-lost', '2', '--max-p99', '250ms', '--json', '--seed', '7'
  ])
  t.match(options, {
    connections: 5_000,
    ramp: 90_000,
    duration: 600_000,
    channels: 50,
    channelPrefix: 'room:load-',
    subscriptions: 3,
    publish: 500,
    size: 1_000,
    headers: { Cookie: 'a=b', 'X-Empty': '' },
    origin: 'https://a.example',
    tokenSecret: SECRET,
    tokenClaims: { aud: 'x' },
    maxLost: 2,
    maxP99: 250,
    json: true,
    seed: 7
  })
})

t.test('wrong arguments are named, with what is allowed', async (t) => {
  const wrong: Array<[string[], RegExp]> = [
    [[], /^load needs --url/],
    [['wss://chat.example.com'], /Unexpected argument/],
    [['--url', 'chat.example.com'], /^--url is 'chat.example.com'. It must be a URL that starts with ws:/],
    [['--url', 'ftp://chat.example.com'], /^--url is/],
    [['--url', 'wss://me:secret@chat.example.com'], /^--url must not contain a user or a password/],
    [[...URL_ARGS, '--path', 'ws'], /^--path is 'ws'. It must be a path that starts with/],
    [[...URL_ARGS, '--path', '/x#y'], /^--path is '\/x#y'. It must be a path that starts with '\/' and has no '#'/],
    [[...URL_ARGS, '--origin', 'a\nb'], /^--origin is 'a\nb'. It must be an origin/],
    [[...URL_ARGS, '--origin', 'http://ü€.de'], /^--origin/],
    [[...URL_ARGS, '--origin', ''], /^--origin/],
    [[...URL_ARGS, '--protocol', 'mqtt'], /^--protocol is 'mqtt'. It must be sdk or plain/],
    [[...URL_ARGS, '--connections', '0'], /^--connections is '0'. It must be a whole number from 1 to 20000/],
    [[...URL_ARGS, '--connections', '20001'], /^--connections/],
    [[...URL_ARGS, '--publish', '1.5'], /^--publish/],
    [[...URL_ARGS, '--duration', '61m'], /^--duration is '61m'. It must be a duration from 1000 ms to 60 min/],
    [[...URL_ARGS, '--ramp', 'soon'], /^--ramp/],
    [[...URL_ARGS, '--channel-prefix', 'load'], /^--channel-prefix is 'load'. It must be a namespace and a colon/],
    [[...URL_ARGS, '--channels', '2', '--subscriptions', '3'], /^--subscriptions is '3'. It must be at most --channels, which is 2/],
    [[...URL_ARGS, '--header', 'no colon'], /^--header must be 'name: value'/],
    [[...URL_ARGS, '--header', 'a: b\r\nc: d'], /^--header/],
    [[...URL_ARGS, '--header', 'cookie: ü€'], /^--header must be/],
    [[...URL_ARGS, '--header', 'Trailer: x'], /^--header must not set Trailer: the upgrade has its own/],
    [[...URL_ARGS, '--header', 'sec-websocket-protocol: x'], /^--header must not set sec-websocket-protocol/],
    [[...URL_ARGS, '--token', 'a', '--token-secret', SECRET], /^use only one of --token/],
    [[...URL_ARGS, '--token-secret', 'short'], /^the token secret has 5 bytes/],
    [[...URL_ARGS, '--token-secret-file', '/nowhere'], /^--token-secret-file: .*ENOENT/],
    [[...URL_ARGS, '--token-claims', '[]'], /^--token-claims is '\[\]'. It must be a JSON object/],
    [[...URL_ARGS, '--token-claims', '{'], /^--token-claims/],
    [[...URL_ARGS, '--connection', '5'], /^unknown option --connection. Did you mean --connections\?$/],
    [[...URL_ARGS, '--something-else', '5'], /something-else.*See load --help/s]
  ]
  for (const [args, message] of wrong) {
    t.throws(() => readOptions(args), Object.assign(new UsageError(), { message }), args.join(' '))
  }
})

t.test('no environment variable names an address', async (t) => {
  t.intercept(process, 'env', { value: { ...process.env, URL: 'ws://a.example', LOAD_URL: 'ws://a.example' } })
  t.throws(() => readOptions([]), { message: /^load needs --url/ })
})

t.test('the help names every option, and fits a terminal', async (t) => {
  t.equal(readOptions(['--help']), undefined)
  t.equal(readOptions(['-h']), undefined)
  for (const name of ['url', 'path', 'protocol', 'connections', 'ramp', 'duration', 'channels', 'channel-prefix', 'subscriptions', 'publish', 'size',
    'token', 'token-secret', 'token-secret-file', 'token-claims', 'header', 'origin', 'max-lost', 'max-p99', 'json', 'seed']) {
    t.match(USAGE, new RegExp(`^  --${name}\\b`, 'm'))
  }
  t.strictSame(USAGE.split('\n').filter(line => line.length > 100), [])
})

t.test('more upgrades a minute than the plugin takes by default get a warning', async (t) => {
  const text = (...args: string[]) => announcement(readOptions([...URL_ARGS, ...args])!)
  t.equal(text('--connections', '7000'), 'Connecting 7000 sdk clients to wss://chat.example.com/connection/websocket within 88 s,' +
    ' then 10 publications of 128 bytes a second for 60 s.\n')
  t.match(text('--connections', '7000', '--ramp', '10s'), /\nWarning: one address sends 7000 upgrades in a minute[^]*429/)
  t.match(text('--connections', '20000', '--ramp', '2m'), /Warning: one address sends 10000 upgrades/)
})

t.test('more connections than the process may have open are refused before the first one', async (t) => {
  t.throws(() => checkFiles(1_000, 1_024), Object.assign(new UsageError(), { message: /^1000 connections need 1064 open files, but this process may have only 1024/ }))
  t.doesNotThrow(() => checkFiles(960, 1_024))
  t.doesNotThrow(() => checkFiles(1_000, undefined))
  t.ok(openFileLimit() === undefined || openFileLimit()! > 0)
  t.intercept(process.report, 'getReport', { value: () => ({ userLimits: { open_files: { soft: 64, hard: 64 } } }) })
  await t.rejects(load(URL_ARGS, fakeTerminal()), { message: /^100 connections need 164 open files/ })
  t.intercept(process.report, 'getReport', { value: () => ({ userLimits: { open_files: { soft: 'unlimited', hard: 'unlimited' } } }) })
  t.equal(openFileLimit(), undefined)
})
