/** Who is signed in: a link for another browser, and the end of this one's session. */
import { useState } from "preact/hooks"
import { call, hasKey, signOut } from "../state/Api.ts"
import { Copy } from "../text/Copy.tsx"

export const SignIns = () => {
  const [link, setLink] = useState<string>()
  const [problem, setProblem] = useState<string>()
  // Where a product says who the user is, its own pages sign in and out.
  if (!hasKey()) return null
  const make = async () => {
    setLink(undefined)
    setProblem(undefined)
    const outcome = await call<{ readonly path: string }>("link", {})
    if (outcome.ok) setLink(new URL(outcome.value.path, location.origin).href)
    else setProblem(`${outcome.message}: ${outcome.advice}`)
  }
  return (
    <div class="sign-ins">
      <button type="button" class="quiet" onClick={() => void make()}>Open elsewhere</button>
      <button type="button" class="quiet" onClick={signOut}>Sign out</button>
      {problem !== undefined && <p class="problem" role="alert">{problem}</p>}
      {link !== undefined && (
        <div role="status">
          <p class="note">This link signs another browser in, once, within 10 minutes.{isLocal() && localNote}</p>
          <p>
            <code class="link">{link}</code> <Copy text={link} />
          </p>
        </div>
      )}
    </div>
  )
}

// internal

const isLocal = (): boolean => /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname)

const localNote =
  " Its address is known on this machine only. Another device needs a gateway that it reaches: start it with --host, and make the link there."
