import { readdirSync, readFileSync } from 'node:fs'

/** The files of the page by name. `scripts/build.mjs` puts them in here: the package may be bundled again. */
export const assets: Readonly<Record<string, string>> = Object.fromEntries(
  readdirSync(new URL('page/', import.meta.url)).map(name => [name, readFileSync(new URL(`page/${name}`, import.meta.url), 'utf8')])
)
