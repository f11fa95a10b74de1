import { checkFields } from '../model/arguments.ts'
import type { Connection } from '../model/connection.ts'

/** What to publish in place of what the client sent: a result of `onPublish`. */
export interface PublishChange<Data = unknown> {
  /**
   * The data to publish.
   * @default what the client sent
   */
  data?: Data | undefined
  /**
   * Short strings that travel with the publication and are kept in the history, such as `{ lang: 'de' }`.
   * @default undefined (none)
   */
  tags?: Record<string, string> | undefined
  /**
   * A second publish with the same key within five minutes publishes nothing.
   * @default undefined (none)
   */
  idempotencyKey?: string | undefined
  /**
   * False: the publication is not kept although the namespace has history.
   * @default true
   */
  history?: boolean | undefined
  /**
   * A connection, or its id, that does not get the publication live. With the connection of the client that publishes,
   * it does not get its own message back.
   * @default undefined (everybody gets it)
   */
  except?: Connection | string | undefined
}

const CHANGE_FIELDS: readonly (keyof PublishChange)[] = ['data', 'tags', 'idempotencyKey', 'history', 'except']

/**
 * Checks the names of what `onPublish` has returned. The publisher checks the values.
 * @throws FST_CRWS_INVALID_ARGUMENT
 */
export function checkChange (change: PublishChange): PublishChange {
  checkFields('result of onPublish', change, CHANGE_FIELDS)
  return change
}
