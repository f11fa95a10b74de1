import type { Connection } from '../model/connection.ts'
import type { ChannelTypes, DataOf } from '../model/realtime-types.ts'
import type { Schema } from '../model/schema.ts'
import type { Duration } from './checks.ts'

/**
 * How many, and within which time: `{ max: 20, timeWindow: '1s' }`. Up to `max` may come at once; the allowance refills
 * evenly over `timeWindow`.
 */
export interface Limit {
  /** Maximum number within `timeWindow`, and of those that come at once; at least 1. */
  max: number
  /** Length of the window: milliseconds, or a string such as '10s'; at least 1 ms. */
  timeWindow: Duration
}

/** As a method: rules for the data of one namespace are also rules for `unknown`. */
type PublishRule<Data> = {
  rule (connection: Connection, channel: string, data: Data): boolean | Promise<boolean>
}['rule']

/** Rules by namespace. `publish` of a namespace that `RealtimeTypes` names gets the data that it carries. */
export type ChannelsOptions = {
  // `string & {}`: any other name. With `string` alone the names that are known would be lost.
  [Namespace in keyof ChannelTypes | (string & {})]?: ChannelOptions<DataOf<Namespace>>
}

/**
 * Rules of one namespace. They apply to what clients do on their own: SDK clients, and plain ones with
 * `plain.envelope`. Your app may always publish and subscribe; only `history`, `presence`, `batchDelay`, `slow`,
 * `stream` and `delta` apply to its calls.
 */
export interface ChannelOptions<Data = unknown> {
  /**
   * Whether a client may subscribe. A function may be async; if it throws, the client gets error 100.
   * @default false
   */
  subscribe?: boolean | ((connection: Connection, channel: string) => boolean | Promise<boolean>) | undefined
  /**
   * Whether a client may publish. A function may be async; if it throws, the client gets error 100. `data` is the
   * output of `schema`. Without a schema nobody has checked it, whatever its type says.
   * @default false
   */
  publish?: boolean | PublishRule<Data> | undefined
  /**
   * Whether the members of a channel are kept, for `app.realtime.presence` and for the SDK clients of `presenceFor`.
   * @default false
   */
  presence?: boolean | undefined
  /**
   * Whether subscribed clients are told who joins and leaves.
   * @default false
   */
  joinLeave?: boolean | undefined
  /**
   * Keeps the newest `size` publications (at least 1) of a channel, until `ttl` (at least 1 s) after the last one.
   * Then its publications have offsets, and clients recover what they missed.
   *
   * `recover` says what a client gets when it subscribes. With 'stream', the default, it gets what it missed, if it was
   * here before. With 'cache' every client gets the newest publication at once, on both routes, and no older ones.
   * @default undefined (none is kept)
   */
  history?: { size: number, ttl: Duration, recover?: 'stream' | 'cache' | undefined } | undefined
  /**
   * Limits what one user publishes to one channel, over all connections to this instance. Without a user, it limits one
   * connection. Publishes over the limit get error 111.
   * @default undefined (no limit)
   */
  publishLimit?: Limit | undefined
  /**
   * Whether a client needs a subscription token. If it has one, `subscribe` is not asked. Plain clients have none, so
   * they cannot subscribe.
   * @default false
   */
  token?: boolean | undefined
  /**
   * How long a publication may wait for others, so that they are sent in one write. A few milliseconds trade latency
   * for CPU. At most one second. With 0, only what arrives in the same turn of the event loop is sent together.
   * @default 0
   */
  batchDelay?: Duration | undefined
  /**
   * What happens to a client that does not read fast enough. 'close' closes it at `maxBufferedBytes`; it connects
   * again and recovers. 'latest' sends it only the newest of the publications that arrived while it was slow: for
   * channels in which each publication makes the earlier ones worthless.
   * @default 'close'
   */
  slow?: 'close' | 'latest' | undefined
  /**
   * Parses and checks what clients publish: JSON Schema, compiled by your app's own validator compiler, or a Standard
   * Schema such as that of zod, valibot or arktype. Its output goes to the rule `publish` and to `onPublish`, and is
   * published. The client gets error 107 with the first reason if the schema refuses the data. What your app publishes
   * is not checked.
   * @throws FST_CRWS_INVALID_SCHEMA from `app.ready`, if the validator compiler does not take it
   * @default undefined (any data)
   */
  schema?: Schema | undefined
  /**
   * Whether `app.realtime.stream` may publish here. A client that subscribes gets the text so far of each stream in one
   * publication. Needs `history` with a size of at least 20, and not `slow: 'latest'`.
   * @default false
   */
  stream?: boolean | undefined
  /**
   * Whether an SDK client may subscribe with a filter: it then gets only publications whose `tags` match. Joins and
   * leaves come all the same. It saves traffic and is no secret: every subscriber may leave the filter out.
   * @default false
   */
  tagsFilter?: boolean | undefined
  /**
   * Whether SDK clients that ask for it (`delta: 'fossil'`) get a publication as the difference to the one before. It
   * saves bytes where publications resemble each other, and costs CPU once per publication, not per client. Data of
   * more than 64 KB is always sent in full, and so is what would not become smaller.
   * @default false
   */
  delta?: boolean | undefined
  /**
   * Whether publications, joins and leaves name their channel by a number, for SDK clients that take it. It saves the
   * bytes of the name in each. Subscriptions by the server keep the name.
   * @default false
   */
  compaction?: boolean | undefined
  /**
   * Who may ask for the presence of a channel: its subscribers, every client, or whom the function allows, subscribed
   * or not. A function may be async; if it throws, the client gets error 100. A `#` in a channel's name limits those
   * who are not subscribed to its users. Needs `presence`.
   * @default 'subscribers'
   */
  presenceFor?: 'subscribers' | 'everybody' | ((connection: Connection, channel: string) => boolean | Promise<boolean>) | undefined
}
