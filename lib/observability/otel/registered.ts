import type { Logs } from '../logs.ts'

/** Where OpenTelemetry's API keeps what is registered with it, whichever copy of the API that was. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1')

/** Binds to an SDK that is registered. Without one, the API is not imported: that takes some 25 ms. */
export async function bindRegistered (observer: { bind (): Promise<void> }, logs: Logs): Promise<void> {
  if (!(REGISTERED in globalThis)) return
  try {
    await observer.bind()
  } catch (error) {
    const { API, setupFailure, TelemetryReport } = await import('./report.ts')
    new TelemetryReport(logs).failed(setupFailure(error, [API])) // it publishes all the same
  }
}
