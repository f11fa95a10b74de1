/** Routes for clients whose network blocks WebSockets. Each may be a path, or false, which leaves it out. */
export interface FallbackOptions {
  /**
   * Route of the SDKs' transport `http_stream`: a response that stays open, JSON or Protobuf.
   * @default '/connection/http_stream'
   */
  httpStreamPath?: string | false | undefined
  /**
   * Route of the SDKs' transport `sse`: server-sent events, JSON.
   * @default '/connection/sse'
   */
  ssePath?: string | false | undefined
  /**
   * Route to which clients of these two transports post what they send. They need it.
   * @default '/emulation'
   */
  emulationPath?: string | false | undefined
  /**
   * Route for a browser's own `EventSource`, or `curl`: publications of channels, one way.
   * @default '/connection/uni_sse'
   */
  uniSsePath?: string | false | undefined
}
