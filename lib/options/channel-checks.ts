import { noRules } from '../model/channel-rules.ts'
import type { ChannelRules, PresenceFor } from '../model/channel-rules.ts'
import { boolean, duration, fields, fn, integer, invalid, literal, orLiteral, plainObject } from './checks.ts'
import type { Check } from './checks.ts'
import { limit } from './limit-checks.ts'
import { invalidOption, Problems } from './problems.ts'
import { schema } from './schema-checks.ts'

/** Milliseconds. An SDK waits five seconds for a reply. */
const MAX_BATCH_DELAY = 1_000

const historyBound = 'a value: without a bound a channel would grow forever'
const history: Check<ChannelRules['history']> = fields({ size: integer(1), ttl: duration(1_000), recover: literal('stream', 'cache') }, { recover: 'stream' }, {
  required: { size: historyBound, ttl: historyBound }, allowed: "{ size, ttl, recover }, such as { size: 100, ttl: '10m' }"
})

const ruleValues = 'true, false or a function'
const channelRules: Check<ChannelRules> = fields({
  subscribe: orLiteral([true, false], fn<ChannelRules['subscribe']>(ruleValues)),
  publish: orLiteral([true, false], fn<ChannelRules['publish']>(ruleValues)),
  presence: boolean,
  joinLeave: boolean,
  history,
  publishLimit: limit as Check<ChannelRules['publishLimit']>,
  token: boolean,
  batchDelay: duration(0, MAX_BATCH_DELAY),
  slow: literal('close', 'latest'),
  schema: schema as Check<ChannelRules['schema']>,
  stream: boolean,
  tagsFilter: boolean,
  delta: boolean,
  compaction: boolean,
  compression: boolean,
  presenceFor: orLiteral(['subscribers', 'everybody'], fn<PresenceFor>("'subscribers', 'everybody' or a function"))
}, noRules)

/** Of half the history, one publication has the whole text of a stream: with less, each would have it. */
const MIN_STREAM_HISTORY = 20

/** A late subscriber finds a stream in the history, and needs each part of it. */
function checkStream ({ stream, history, slow }: ChannelRules, name: string): void {
  if (!stream) return
  const allowed = `false, or true with history of at least ${MIN_STREAM_HISTORY} publications, such as { size: 100, ttl: '10m' }`
  if (history === undefined) throw invalidOption(`${name}.stream`, 'true without history', allowed)
  if (history.size < MIN_STREAM_HISTORY) throw invalidOption(`${name}.stream`, `true with history of ${history.size}`, allowed)
  if (history.recover === 'cache') throw invalidOption(`${name}.stream`, "true with history.recover: 'cache'", "false, or history.recover: 'stream'")
  if (slow === 'latest') throw invalidOption(`${name}.stream`, "true with slow: 'latest', which leaves out parts", "false, or slow: 'close'")
}

/** Without presence nobody can ask for it. A rule that says who may is then a mistake. */
function checkPresence ({ presence, presenceFor }: ChannelRules, name: string): void {
  if (presence || presenceFor === noRules.presenceFor) return
  throw invalidOption(`${name}.presenceFor`, 'a value without presence', "'subscribers', or another value with presence: true")
}

/** Checks the option `channels`. */
export const channels: Check<ReadonlyMap<string, ChannelRules>> = (value, name) => {
  const given = plainObject(value, name, 'an object of rules by namespace')
  const resolved = new Map<string, ChannelRules>()
  const problems = new Problems()
  for (const [namespace, rules] of Object.entries(given)) {
    if (rules === undefined) continue
    problems.attempt(() => {
      if (namespace.includes(':')) throw invalid(name, namespace, "a namespace, which is the part of a channel before the first ':'")
      const checked = channelRules(rules, `${name}.${namespace}`)
      checkStream(checked, `${name}.${namespace}`)
      checkPresence(checked, `${name}.${namespace}`)
      resolved.set(namespace, checked)
    })
  }
  problems.throwIfAny()
  return resolved
}
