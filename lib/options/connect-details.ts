/** What an SDK client sent with its connect command. It is empty for a plain client. */
export interface ConnectDetails {
  /** Data from the client's app: JSON, or a Buffer if it is not JSON. */
  data?: unknown
  /** Name of the SDK, such as 'js'. */
  name?: string | undefined
  /** Version of the SDK. */
  version?: string | undefined
}
