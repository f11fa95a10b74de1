/** Where log entries go, and whether messages have entries. */
export interface LoggingOptions {
  /**
   * 'stdout' writes as 'auto' does. 'api' sends the entries to Cloud Logging's API. It needs the package
   * `@google-cloud/logging`.
   * @default 'stdout'
   */
  destination?: 'stdout' | 'api' | undefined
  /**
   * Writes an entry for a random sample of the messages, received and sent. `ratio` is their share, above 0 and up to
   * 1. With `content` an entry shows the first KB of the message. False writes none.
   * @default false
   */
  messages?: false | { ratio: number, content?: boolean | undefined } | undefined
}
