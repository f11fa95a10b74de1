/** Why a subscription ended. A client unsubscribes for good below 2500, and subscribes again from there on. */
export const unsubscribeCodes = {
  /** When the app unsubscribes a connection or a user. */
  server: { code: 2000, reason: 'server unsubscribe' },
  /** When the position was lost (new epoch, or a gap): the client subscribes again and recovers what it can. */
  insufficientState: { code: 2500, reason: 'insufficient state' },
  /** When the subscription was not refreshed in time, or cannot be. */
  expired: { code: 2501, reason: 'subscription expired' }
} as const
