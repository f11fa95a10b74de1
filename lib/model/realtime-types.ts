/**
 * The types of your app. They are empty until your app extends them, once, in any of its files. Then
 * `connection.meta`, `connection.info` and the data of channels have these types everywhere.
 *
 * - `meta`: the type of `connection.meta` and of the `meta` that `authenticate` returns.
 * - `info`: the type of `connection.info`, of a member's `info`, and of the `info` that `authenticate` returns.
 * - `channels`: what each namespace carries, by its name; '' names the channels without a colon.
 * - `methods`: what the handler of each method gets and returns: `{ 'todo.add': { data: Todo, result: number } }`.
 * - `typeProvider`: a type provider of Fastify, such as `TypeBoxTypeProvider`, for schemas other than Standard Schemas.
 *
 * `channels` and `methods` may come from your schemas: `ChannelsOf<typeof channels>`, `MethodsOf<typeof methods>`.
 * Types check nothing at run time: a token's `info` arrives unchecked, and so does what a client publishes to a
 * namespace without a schema.
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

// Through `keyof`: it looks at no other member. Those may come from rules and handlers, whose connection has `meta`.
export type Extended<Key extends string, Default = unknown> = Key extends keyof RealtimeTypes ? RealtimeTypes[Key] : Default

/** `meta` of `RealtimeTypes`; unknown until your app extends it. */
export type Meta = Extended<'meta'>

/** `info` of `RealtimeTypes`; unknown until your app extends it. */
export type Info = Extended<'info'>

/** `channels` of `RealtimeTypes`; without a member until your app extends it. */
export type ChannelTypes = Extended<'channels', Record<never, never>>

/** `methods` of `RealtimeTypes`; without a member until your app extends it. */
export type MethodTypes = Extended<'methods', Record<never, never>>

/** What the handler of a method gets: unknown for one that `RealtimeTypes` does not name. */
export type MethodData<Name> = MemberOfMethod<Name, 'data'>

/** What the handler of a method returns: unknown for one that `RealtimeTypes` does not name. */
export type MethodResult<Name> = MemberOfMethod<Name, 'result'>

type MemberOfMethod<Name, Member> =
  Name extends keyof MethodTypes ? Member extends keyof MethodTypes[Name] ? MethodTypes[Name][Member] : unknown : unknown

/** What any channel carries: unknown until your app extends `channels` of `RealtimeTypes`. */
export type AnyChannelData = keyof ChannelTypes extends never ? unknown : ChannelTypes[keyof ChannelTypes]

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
