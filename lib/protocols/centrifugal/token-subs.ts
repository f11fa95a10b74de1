import type { GivenByToken, Overrides } from '../../hub/subscription.ts'

/** What a connection token gives one of its server-side subscriptions. */
export interface TokenSubscription extends GivenByToken {
  /** For the client, with the reply to its connect. */
  readonly data?: unknown
}

/** Fields of `override`. The last two are checked and mean nothing here: with history both always are so. */
const OVERRIDES = ['presence', 'join_leave', 'force_push_join_leave', 'force_recovery', 'force_positioning'] as const

/** Checks the claim `subs`, and decodes what is in base64. @throws TypeError */
export function checkSubs (claim: unknown): ReadonlyMap<string, TokenSubscription> {
  const subs = objectOf(claim, '`subs`', ' of subscriptions by channel')
  return new Map(Object.entries(subs).map(([channel, sub]) => {
    const { info, data, override, b64info, b64data } = objectOf(sub, `\`subs\` of ${channel}`)
    return [channel, {
      info: b64info === undefined ? info : decodeBase64('b64info', b64info, channel),
      data: b64data === undefined ? data : decodeBase64('b64data', b64data, channel),
      overrides: checkOverride(override, channel)
    }]
  }))
}

/** Checks a claim `override`. @throws TypeError */
export function checkOverride (claim: unknown, channel?: string): Overrides | undefined {
  if (claim === undefined) return undefined
  const name = `\`override\`${ofChannel(channel)}`
  const given = objectOf(claim, name)
  const values: Partial<Record<typeof OVERRIDES[number], boolean>> = {}
  for (const field of OVERRIDES) {
    if (given[field] === undefined) continue
    const { value } = Object(given[field]) as { value?: unknown }
    if (typeof value !== 'boolean') throw new TypeError(`\`${field}\` in ${name} must be an object with a boolean \`value\``)
    values[field] = value
  }
  const { presence, join_leave: joinLeave, force_push_join_leave: pushJoinLeave } = values
  return { presence, joinLeave, pushJoinLeave }
}

/** Decodes a claim that is JSON in base64. @throws TypeError */
export function decodeBase64 (claim: string, encoded: unknown, channel?: string): unknown {
  try {
    return JSON.parse(Buffer.from(encoded as string, 'base64').toString())
  } catch {
    throw new TypeError(`\`${claim}\`${ofChannel(channel)} must be JSON in base64`)
  }
}

function objectOf (value: unknown, name: string, what = ''): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  throw new TypeError(`${name} must be an object${what}`)
}

function ofChannel (channel: string | undefined): string {
  return channel === undefined ? '' : ` of ${channel}`
}
