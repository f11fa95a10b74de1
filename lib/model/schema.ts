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
