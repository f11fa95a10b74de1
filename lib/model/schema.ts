import type { Extended } from './realtime-types.ts'

/**
 * What zod, valibot, arktype and others have in common (standardschema.dev). Only what is used of it, so that it needs
 * no package.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>
    readonly types?: { readonly input: Input, readonly output: Output } | undefined
  }
}

/** A value that was parsed, or why it was refused. */
export type StandardResult<Output> =
  | { readonly value: Output, readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] }

export interface StandardIssue {
  readonly message: string
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/**
 * Describes data that clients send: a Standard Schema, such as that of zod, valibot or arktype, or whatever the
 * validator compiler of your app takes, such as JSON Schema or TypeBox.
 */
export type Schema = StandardSchema<any, any> | object

type TypesOf<One> = One extends { readonly '~standard': { readonly types?: infer Types } } ? NonNullable<Types> : never

/** By the type provider of `RealtimeTypes`; else by the member `static`, which schemas of @sinclair/typebox have. */
type Provided<One> = Extended<'typeProvider', undefined> extends infer Provider extends { readonly validator: unknown }
  ? (Provider & { schema: One })['validator']
  : One extends { static: infer Static } ? Static : unknown

/**
 * What a schema makes of data. unknown without a schema, and for JSON Schema, unless `RealtimeTypes` has a
 * `typeProvider`.
 */
export type OutputOf<One> = [TypesOf<One>] extends [never]
  ? Provided<One>
  : TypesOf<One> extends { output: infer Output } ? Output : unknown

/** What a schema takes. */
export type InputOf<One> = [TypesOf<One>] extends [never]
  ? Provided<One>
  : TypesOf<One> extends { input: infer Input } ? Input : unknown
