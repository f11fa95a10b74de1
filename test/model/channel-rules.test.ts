import t from 'tap'
import { ChannelNamespaces, checkChannel, namespaceOf, noRules } from '../../lib/model/channel-rules.ts'

const chat = { ...noRules, presence: true }
const plain = { ...noRules, joinLeave: true }
const namespaces = new ChannelNamespaces(new Map([['chat', chat], ['', plain]]))

t.test('a namespace is the name up to the first colon', async (t) => {
  const channels = ['chat:lobby', 'chat:a:b', 'chat:', ':lobby', 'lobby', '']
  t.strictSame(channels.map(namespaceOf), ['chat', 'chat', 'chat', '', '', ''])
})

t.test('a channel has the rules of its namespace, and a namespace without rules allows nothing', async (t) => {
  const channels = ['chat:lobby', 'chat', 'lobby', 'other:lobby']
  t.strictSame(channels.map(channel => namespaces.rules(channel)), [chat, plain, plain, noRules])
  t.strictSame(channels.map(channel => namespaces.find(channel)), [chat, plain, plain, undefined])
})

t.test('a template names the namespace and hides the rest of the channel', async (t) => {
  const channels = ['chat:lobby', 'lobby', 'other:lobby']
  t.strictSame(channels.map(channel => namespaces.template(channel)), ['chat:{channel}', '{channel}', undefined])
})

t.test('a channel is a string of 1 to 255 bytes without control characters', async (t) => {
  const valid = ['x', ' ', 'chat:{1} %', 'ž'.repeat(127), 'x'.repeat(255)]
  t.strictSame(valid.map(checkChannel), valid)
  const invalid: Array<[channel: unknown, message: RegExp]> = [
    ['', /a non-empty string/], [undefined, /a non-empty string/], [7, /a non-empty string/],
    ['x'.repeat(256), /256 bytes/], ['ž'.repeat(128), /256 bytes/],
    ['\u0000', /control characters/], ['a\nb', /control characters/], ['\u007f', /control characters/]
  ]
  for (const [channel, message] of invalid) {
    t.throws(() => checkChannel(channel as string), { code: 'FST_CRWS_INVALID_CHANNEL', message }, String(channel))
  }
})
