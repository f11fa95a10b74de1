import type { Connection } from '../model/connection.ts'
import type { Schema } from '../model/schema.ts'

/** One method that clients may call. */
export interface MethodOptions {
  /**
   * Parses and checks what the client sends, as that of a namespace does. The handler gets what it makes of the data.
   * @default undefined (any data)
   */
  schema?: Schema | undefined
  /** Answers a call. The client gets the result: JSON, or a Buffer. It gets the code and message of a `ClientError`. */
  handler: (connection: Connection, data: unknown) => unknown
  /**
   * True: the next message of the connection does not wait for this one's handler.
   * @default false
   */
  concurrent?: boolean | undefined
}

/** Methods by name, such as 'todo.add'. */
export interface MethodsOptions {
  [name: string]: MethodOptions
}
