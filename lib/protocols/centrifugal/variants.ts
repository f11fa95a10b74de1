/**
 * Objects by key, each kept only while somebody else has it. Subscriptions that ask for the same share one: with the
 * last of them it is gone, without anyone who counts them.
 */
export class Variants<Variant extends object> {
  readonly #variants = new Map<string, WeakRef<Variant>>()
  readonly #gone = new FinalizationRegistry<string>((key) => {
    if (this.#variants.get(key)?.deref() === undefined) this.#variants.delete(key)
  })

  /** Those that are in use, and those that have not been collected yet. */
  get size (): number { return this.#variants.size }

  get (key: string, make: () => Variant): Variant {
    const known = this.#variants.get(key)?.deref()
    if (known !== undefined) return known
    const variant = make()
    this.#variants.set(key, new WeakRef(variant))
    this.#gone.register(variant, key)
    return variant
  }
}
