/** An HMAC secret that is long enough for the option `token`, with a name that tells it from others. */
export function secretOf (name: string): string {
  return name.padEnd(32, '.')
}
