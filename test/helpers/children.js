// tap loads itself into every Node.js that a test starts, and into what that one starts, whatever environment the test
// gives it. Each takes longer to start and dumps the coverage of all that it has loaded: the built package, the
// benchmarks, node_modules. Only a process that tsx lets run the sources has coverage that counts.
import { createRequire } from 'node:module'

const fromTap = createRequire(createRequire(import.meta.url).resolve('@tapjs/processinfo'))

fromTap('process-on-spawn').addListener(child => {
  const { NODE_OPTIONS = '', ...env } = child.env
  if (child.args.includes('--import=tsx') && env._TAPJS_PROCESSINFO_COVERAGE_ !== '0') return
  for (const name of Object.keys(env)) if (name.startsWith('_TAPJS_PROCESSINFO_')) delete env[name]
  const options = NODE_OPTIONS.split(' ').filter(option => !option.includes('/@tapjs/processinfo/')).join(' ')
  child.env = options === '' ? env : { ...env, NODE_OPTIONS: options }
})
