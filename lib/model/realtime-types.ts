/**
 * The types of your app. They are empty until your app extends them, once, in any of its files. Then
 * `connection.meta`, `connection.info` and the data of channels have these types everywhere.
 *
 * - `meta`: the type of `connection.meta` and of the `meta` that `authenticate` returns.
 * - `info`: the type of `connection.info`, of a member's `info`, and of the `info` that `authenticate` returns.
 * - `channels`: what each namespace carries, by its name; '' names the channels without a colon.
 *
 * They describe your app and check nothing at run time: a token's `info` and what a client publishes arrive unchecked.
 * @example
 * declare module 'fastify-cloud-run-websocket' {
 *   interface RealtimeTypes {
 *     meta: { tenant: string } | undefined // undefined: some connections have none
 *     info: { name: string }
 *     channels: { chat: { text: string } }
 *   }
 * }
 *
 * await app.realtime.publish('chat:lobby', { text: 'hello' }) // { txt: 'hello' } does not compile
 */
export interface RealtimeTypes {}

type Extended<Key extends string> = RealtimeTypes extends { [K in Key]: infer Type } ? Type : unknown

/** `meta` of `RealtimeTypes`; unknown until your app extends it. */
export type Meta = Extended<'meta'>

/** `info` of `RealtimeTypes`; unknown until your app extends it. */
export type Info = Extended<'info'>

/** `channels` of `RealtimeTypes`; without a member until your app extends it. */
export type ChannelTypes = RealtimeTypes extends { channels: infer Types } ? Types : Record<never, never>

/** What the channels of a namespace carry: unknown for a namespace that `RealtimeTypes` does not name. */
export type DataOf<Namespace> = Namespace extends keyof ChannelTypes ? ChannelTypes[Namespace] : unknown

/**
 * What a channel carries, by its name, such as `ChannelData<'chat:lobby'>`. unknown if the name is any `string`, or if
 * `RealtimeTypes` does not name its namespace.
 */
export type ChannelData<Channel extends string = string> =
  string extends Channel ? unknown : Channel extends `${infer Namespace}:${string}` ? DataOf<Namespace> : DataOf<''>

/** What may be published to this channel. To several channels, or to one of several: what all of them carry. */
export type DataFor<Channel extends string> =
  (Channel extends string ? (data: ChannelData<Channel>) => void : never) extends (data: infer Data) => void ? Data : never
