import neostandard, { resolveIgnoresFromGitignore } from 'neostandard'

const maxLength = {
  code: 140,
  comments: 120,
  ignoreUrls: true,
  ignoreStrings: true,
  ignoreTemplateLiterals: true,
  ignoreRegExpLiterals: true
}

export default [
  ...neostandard({
    ts: true,
    ignores: resolveIgnoresFromGitignore()
  }),
  {
    files: ['index.ts', 'lib/**/*.ts'],
    rules: { '@stylistic/max-len': ['error', maxLength] }
  }
]
