import type { FastifyInstance } from 'fastify'
import { detectPlatform } from '../../google/platform.ts'
import type { Platform } from '../../google/platform.ts'
import type { Logs } from '../logs.ts'
import { telemetrySettings } from './environment.ts'
import type { TelemetrySettings } from './environment.ts'
import { API, neededPackages, setupFailure, TelemetryReport } from './report.ts'
import type { Load, TelemetrySdk } from './sdk.ts'

/**
 * Milliseconds after listening. Importing an SDK blocks the event loop for some tenths of a second: the first probes
 * go before.
 */
const START_DELAY = 1_000
/** Where OpenTelemetry's API keeps what is registered with it, whichever copy of the API that was. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1')

/** The SDK of this process. All its apps share it, because OpenTelemetry has one global meter provider. */
interface Shared {
  readonly users: Set<Telemetry>
  sdk: TelemetrySdk | undefined
  started: Promise<void> | undefined
}

let shared: Shared | undefined

const loadPackage: Load = name => import(name)

/** `telemetry: 'auto'`: an SDK of ours if metrics have somewhere to go and the app has registered none. */
export class Telemetry {
  readonly #report: TelemetryReport
  readonly #load: Load
  #shared: Shared | undefined
  #closed = false
  #timer: NodeJS.Timeout | undefined

  constructor (logs: Logs, load: Load = loadPackage) {
    this.#report = new TelemetryReport(logs)
    this.#load = load
  }

  /**
   * Binds the observer to the SDK that the app has registered, and starts one of ours a moment after the app listens.
   * Without a registered SDK the start of the app does not wait for the import of the API, which may be missing.
   */
  async attach (app: FastifyInstance, observer: { bind (): Promise<void> }): Promise<void> {
    const bindToApp = async () => { if (REGISTERED in globalThis) await observer.bind().catch(error => this.#notBound(error)) }
    await bindToApp()
    app.addHook('onReady', bindToApp)
    app.addHook('onListen', async () => {
      await bindToApp()
      this.#timer = setTimeout(() => {
        this.#startAndBind(observer).catch(error => this.#notBound(error))
      }, START_DELAY).unref()
    })
  }

  async #startAndBind (observer: { bind (): Promise<void> }): Promise<void> {
    await observer.bind()
    await this.start()
    await observer.bind()
    this.#shared?.sdk?.exportFirst()
  }

  /** Resolves when an SDK is registered, or when none is wanted or none can be started. Never rejects. */
  async start (): Promise<void> {
    const settings = telemetrySettings()
    if (settings === undefined) return
    const { registeredProvider } = await import('../instruments.ts')
    if (this.#closed) return
    if (shared === undefined && registeredProvider() !== undefined) return // the app's own
    const platform = await detectPlatform()
    if (this.#closed || !hasTarget(settings, platform)) return
    shared ??= { users: new Set(), sdk: undefined, started: undefined }
    shared.users.add(this)
    this.#shared = shared
    await (shared.started ??= this.#share(shared, settings, platform))
  }

  /** Leaves the SDK. The last app to close sends the last values and stops it, within `budget` ms. */
  async close (budget: number): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    if (!this.#shared?.users.delete(this) || this.#shared.users.size > 0) return
    if (shared === this.#shared) shared = undefined
    await this.#shared.sdk?.stop(budget)
  }

  /** Says that the API is missing, but only where metrics have somewhere to go, or the app has an SDK of its own. */
  async #notBound (error: unknown): Promise<void> {
    const settings = telemetrySettings()
    if (REGISTERED in globalThis) this.#report.failed(setupFailure(error, [API]))
    else if (settings !== undefined && hasTarget(settings, await detectPlatform())) {
      this.#report.failed(setupFailure(error, neededPackages(settings.collector === undefined)))
    }
  }

  async #share (mine: Shared, settings: TelemetrySettings, platform: Platform | undefined): Promise<void> {
    const [{ registeredProvider }, { createSdk }] = await Promise.all([import('../instruments.ts'), import('./sdk.ts')])
    try {
      const sdk = await createSdk(settings, platform, this.#load, this.#report)
      // Meanwhile all apps may have been closed, or the app may have registered its own.
      if (mine.users.size === 0 || registeredProvider() !== undefined) return
      sdk.start()
      mine.sdk = sdk
    } catch (error) {
      // The app works without metrics, and this entry says why.
      this.#report.failed(setupFailure(error, neededPackages(settings.collector === undefined)))
    }
  }
}

/** Whether metrics have somewhere to go: what the environment names, or Google from Google Cloud. */
function hasTarget ({ collector, anywhere }: TelemetrySettings, platform: Platform | undefined): boolean {
  return collector !== undefined || anywhere || platform !== undefined
}
