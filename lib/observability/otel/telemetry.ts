import { detectCloudRun } from '../../google/cloud-run.ts'
import type { CloudRun } from '../../google/cloud-run.ts'
import type { Logs } from '../logs.ts'
import { setupFailure, TelemetryReport } from './report.ts'
import type { Load, TelemetrySdk } from './sdk.ts'
import { telemetrySettings } from './settings.ts'
import type { TelemetrySettings } from './settings.ts'

/** The SDK of this process: OpenTelemetry has one global meter provider, whatever the number of apps. */
interface Shared {
  readonly users: Set<Telemetry>
  sdk: TelemetrySdk | undefined
  started: Promise<void> | undefined
}

let shared: Shared | undefined

const loadPackage: Load = name => import(name)

/** `telemetry: 'auto'`: an SDK of ours where metrics have somewhere to go and the host has brought none. */
export class Telemetry {
  readonly #logs: Logs
  readonly #load: Load
  #shared: Shared | undefined
  #closed = false

  constructor (logs: Logs, load: Load = loadPackage) {
    this.#logs = logs
    this.#load = load
  }

  /** Resolves when there is an SDK, or it is clear that none is wanted or to be had. Never rejects. */
  async start (): Promise<void> {
    const settings = telemetrySettings()
    if (settings === undefined) return
    const { registeredProvider } = await import('../instruments.ts')
    if (this.#closed) return
    if (shared === undefined && registeredProvider() !== undefined) return // the host's own
    const cloudRun = await detectCloudRun()
    if (this.#closed || (cloudRun === undefined && settings.collector === undefined)) return
    shared ??= { users: new Set(), sdk: undefined, started: undefined }
    shared.users.add(this)
    this.#shared = shared
    await (shared.started ??= this.#share(shared, settings, cloudRun))
  }

  /** The last app to close sends what there is and ends the SDK, within `budget` ms. */
  async close (budget: number): Promise<void> {
    this.#closed = true
    if (!this.#shared?.users.delete(this) || this.#shared.users.size > 0) return
    if (shared === this.#shared) shared = undefined
    await this.#shared.sdk?.stop(budget)
  }

  async #share (mine: Shared, settings: TelemetrySettings, cloudRun: CloudRun | undefined): Promise<void> {
    const report = new TelemetryReport(this.#logs)
    const [{ registeredProvider }, { createSdk, neededPackages }] = await Promise.all([import('../instruments.ts'), import('./sdk.ts')])
    try {
      const sdk = await createSdk(settings, cloudRun, this.#load, report)
      // Meanwhile all apps may have been closed, or the host may have brought its own.
      if (mine.users.size === 0 || registeredProvider() !== undefined) return
      sdk.start()
      mine.sdk = sdk
    } catch (error) {
      // The app works without metrics, and who waits for them finds this entry.
      report.failed(setupFailure(error, neededPackages(settings.collector === undefined)))
    }
  }
}
