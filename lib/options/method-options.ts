import type { Connection } from '../model/connection.ts'
import type { MethodData, MethodResult, MethodTypes } from '../model/realtime-types.ts'
import type { Schema } from '../model/schema.ts'

/** One method that clients may call. */
export interface MethodOptions<Data = unknown, Result = unknown> {
  /**
   * Parses and checks what the client sends, as the schema of a namespace does. The handler gets its output.
   * @default undefined (any data)
   */
  schema?: Schema | undefined
  /**
   * Answers a call. The client gets the result: JSON, or a Buffer. It gets the code and message of a `ClientError`, and
   * error 100 for any other error.
   */
  // As a method: one for the data of a schema is also one for `unknown`.
  handler (connection: Connection, data: Data): Result | Promise<Result>
  /**
   * True: the next message of the connection does not wait for this handler.
   * @default false
   */
  concurrent?: boolean | undefined
}

/** Methods by name, such as 'todo.add'. For those in `RealtimeTypes`, it says what they get and return. */
export type MethodsOptions = {
  // `string & {}`: any other name. With `string` alone the names that are known would be lost.
  [Name in keyof MethodTypes | (string & {})]?: MethodOptions<MethodData<Name>, MethodResult<Name>>
}
