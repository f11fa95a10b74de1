import { noRules } from '../model/channel-rules.ts'
import type { ChannelRules } from '../model/channel-rules.ts'
import { boolean, duration, fields, fn, integer, invalid, literal, orLiteral, plainObject } from './checks.ts'
import type { Check } from './checks.ts'
import { limit } from './limit-checks.ts'
import { Problems } from './problems.ts'
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
  schema: schema as Check<ChannelRules['schema']>
}, noRules)

/** Checks the option `channels`. */
export const channels: Check<ReadonlyMap<string, ChannelRules>> = (value, name) => {
  const given = plainObject(value, name, 'an object of rules by namespace')
  const resolved = new Map<string, ChannelRules>()
  const problems = new Problems()
  for (const [namespace, rules] of Object.entries(given)) {
    if (rules === undefined) continue
    problems.attempt(() => {
      if (namespace.includes(':')) throw invalid(name, namespace, "a namespace, which is the part of a channel before the first ':'")
      resolved.set(namespace, channelRules(rules, `${name}.${namespace}`))
    })
  }
  problems.throwIfAny()
  return resolved
}
