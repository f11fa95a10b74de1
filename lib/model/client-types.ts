// Types for clients. They import nothing: a program for browsers needs neither Fastify nor the types of Node.js.

/** What clients see of an app. `ContractOf` makes it from an app's schemas. */
export interface ClientTypes {
  /** What the channels carry, by namespace; '' names the channels without a colon. */
  channels?: object
  /**
   * What clients publish, by namespace, if a schema changes what they send.
   * @default `channels`
   */
  sent?: object
  /** Methods by name: the `result` of each, and what clients send, which is `sent`, or `data` if `sent` is missing. */
  methods?: object
}

type Member<Types, Name> = Name extends keyof Types ? Types[Name] : unknown

/** What a table has for a channel, whose namespace is the part before the first colon. */
type OfChannel<Table, Channel extends string> =
  string extends Channel ? unknown : Channel extends `${infer Namespace}:${string}` ? Member<Table, Namespace> : Member<Table, ''>

type Carried<Types, Channel extends string> = OfChannel<Member<Types, 'channels'>, Channel>
type Published<Types, Channel extends string> = Types extends { sent: infer Table } ? OfChannel<Table, Channel> : Carried<Types, Channel>

type CalledWith<Method> = Method extends { sent: infer Sent } ? Sent : Member<Method, 'data'>

/** What is used of the subscriptions of the SDK for JavaScript. */
export interface SdkSubscriptionLike {
  readonly channel: string
  on: (event: any, listener: any) => any
  once: (event: any, listener: any) => any
  publish (data: any): Promise<any>
  history (options: any): Promise<{ publications: { data: any }[] }>
}

/** What is used of the client of the SDK for JavaScript. */
export interface SdkClientLike {
  newSubscription (channel: string, options?: any): SdkSubscriptionLike
  getSubscription (channel: string): SdkSubscriptionLike | null
  publish (channel: string, data: any): Promise<any>
  history (channel: string, options?: any): Promise<{ publications: { data: any }[] }>
  rpc (method: string, data: any): Promise<{ data: any }>
}

type Publication<Result, Data> = Result extends { publications: (infer One)[] } ? Omit<One, 'data'> & { data: Data } : never
type History<Result, Data> = Omit<Result, 'publications'> & { publications: Publication<Result, Data>[] }
type OnPublication<Context> = (event: 'publication', listener: (context: Context) => void) => unknown

/**
 * The class `Subscription` of the SDK, package centrifuge, with the types of one channel.
 * @example
 * TypedSubscription<Subscription, ChatMessage>
 */
export type TypedSubscription<Subscription extends SdkSubscriptionLike, Data, Sent = Data> =
  Omit<Subscription, 'on' | 'once' | 'publish' | 'history'> & {
    on: OnPublication<Publication<Awaited<ReturnType<Subscription['history']>>, Data>> & Subscription['on']
    once: OnPublication<Publication<Awaited<ReturnType<Subscription['history']>>, Data>> & Subscription['once']
    publish (data: Sent): ReturnType<Subscription['publish']>
    history (options: Parameters<Subscription['history']>[0]): Promise<History<Awaited<ReturnType<Subscription['history']>>, Data>>
  }

type Subscribed<Client extends SdkClientLike, Types, Channel extends string> =
  TypedSubscription<ReturnType<Client['newSubscription']>, Carried<Types, Channel>, Published<Types, Channel>>

/**
 * The class `Centrifuge` of the SDK, package centrifuge, with the types of an app. This is for the SDK with JSON: with
 * Protobuf it carries bytes.
 * @example
 * const client = new Centrifuge(url) as TypedClient<Centrifuge, Contract>
 */
export type TypedClient<Client extends SdkClientLike, Types extends ClientTypes> =
  Omit<Client, 'newSubscription' | 'getSubscription' | 'removeSubscription' | 'publish' | 'history' | 'rpc'> & {
    newSubscription<Channel extends string> (
      channel: Channel, options?: Parameters<Client['newSubscription']>[1]
    ): Subscribed<Client, Types, Channel>
    getSubscription<Channel extends string> (channel: Channel): Subscribed<Client, Types, Channel> | null
    removeSubscription (subscription: { readonly channel: string } | null): void
    publish<Channel extends string> (channel: Channel, data: Published<Types, Channel>): ReturnType<Client['publish']>
    history<Channel extends string> (
      channel: Channel, options?: Parameters<Client['history']>[1]
    ): Promise<History<Awaited<ReturnType<Client['history']>>, Carried<Types, Channel>>>
    rpc<Name extends keyof Member<Types, 'methods'> & string> (
      method: Name, ...data: ArgumentsOf<CalledWith<Member<Member<Types, 'methods'>, Name>>>
    ): Promise<{ data: Member<Member<Member<Types, 'methods'>, Name>, 'result'> }>
  }

/** Data may be left out where it may be undefined. */
type ArgumentsOf<Sent> = undefined extends Sent ? [data?: Sent] : [data: Sent]
