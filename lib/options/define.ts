import type { InputOf, OutputOf, Schema } from '../model/schema.ts'
import type { ChannelOptions } from './channel-options.ts'
import type { MethodOptions } from './method-options.ts'

/** Rules of a namespace whose rule `publish` gets the output of this schema. unknown: it has no schema. */
export type DefinedChannel<One> = Omit<ChannelOptions<OutputOf<One>>, 'schema'> & (unknown extends One ? {} : { schema: One })

/** Rules or a method with this schema, as they are given. */
type Given<Options, One> = Omit<Options, 'schema'> & { schema?: One & Schema }

/**
 * Returns the rules as they are, for the option `channels`. TypeScript knows their schemas: each rule `publish` gets
 * the output of its schema, and `ChannelsOf` has what the channels carry.
 * @example
 * const channels = defineChannels({ chat: { subscribe: true, publish: true, schema: z.object({ text: z.string() }) } })
 *
 * declare module 'fastify-cloud-run-websocket' {
 *   interface RealtimeTypes { channels: ChannelsOf<typeof channels> }
 * }
 */
export function defineChannels<const Schemas> (
  channels: { [Namespace in keyof Schemas]: Given<ChannelOptions<OutputOf<Schemas[Namespace]>>, Schemas[Namespace]> }
): { [Namespace in keyof Schemas]: DefinedChannel<Schemas[Namespace]> } {
  return channels as never
}

/**
 * Returns the methods as they are, for the option `methods`. TypeScript knows their schemas: each handler gets the
 * output of its schema, and `MethodsOf` has what goes in and what comes back.
 * @example
 * const methods = defineMethods({
 *   'todo.add': { schema: z.object({ title: z.string() }), handler: (connection, { title }) => todos.add(title) }
 * })
 *
 * declare module 'fastify-cloud-run-websocket' {
 *   interface RealtimeTypes { methods: MethodsOf<typeof methods> }
 * }
 */
export function defineMethods<const Schemas, Methods extends object> (
  // In this order: with `Methods` first, TypeScript 5.4 finds no types for the handlers' parameters.
  methods: { [Name in keyof Schemas]: Given<MethodOptions<OutputOf<Schemas[Name]>>, Schemas[Name]> } & Methods
): Methods {
  return methods
}

/** unknown without a schema. */
type SchemaOf<One> = One extends { schema: infer Found } ? Found : unknown

/** What the channels carry, by namespace: the output of the schema; unknown without a schema. */
export type ChannelsOf<Channels> = { [Namespace in keyof Channels]: OutputOf<SchemaOf<Channels[Namespace]>> }

/** What clients publish, by namespace: the input of the schema. */
export type SentOf<Channels> = { [Namespace in keyof Channels]: InputOf<SchemaOf<Channels[Namespace]>> }

/** For each method, by name: `data` for the handler, `sent` by clients, and the `result` that they get. */
export type MethodsOf<Methods> = {
  [Name in keyof Methods]: Methods[Name] extends { handler (...args: any): infer Result }
    ? { data: OutputOf<SchemaOf<Methods[Name]>>, sent: InputOf<SchemaOf<Methods[Name]>>, result: Awaited<Result> }
    : never
}

/** What clients see of an app: the second type argument of `TypedClient`. */
export interface ContractOf<Channels, Methods = {}> {
  channels: ChannelsOf<Channels>
  sent: SentOf<Channels>
  methods: MethodsOf<Methods>
}
