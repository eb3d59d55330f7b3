import { commandsOf } from "#opencode/v2/ShellLine"
import { decide } from "#people/PermissionRules"
import { assert, describe, it } from "@effect/vitest"

describe("the commands of a line for the shell", () => {
  // What 1.18.33 asks for on these lines.
  for (
    const [line, commands] of [
      ["ls -l", ["ls -l"]],
      ["cd /tmp && git status; git log | head -1 || true", ["git status", "git log", "head -1", "true"]],
      ["echo 'a;b' && git commit -m \"fix (bug); done\"", ["echo 'a;b'", "git commit -m \"fix (bug); done\""]],
      ["echo a\\;b \"c\\\"; d\"; ls", ["echo a\\;b \"c\\\"; d\"", "ls"]],
      ["make > log 2>&1 && ls &> all", ["make > log 2>&1", "ls &> all"]],
      ["sleep 9 &", ["sleep 9"]],
      ["if true; then rm x; fi", ["true", "rm x"]],
      ["while false; do ls; done; rm x", ["false", "ls", "rm x"]],
      ["f() { rm x; }; f", ["f", "rm x", "f"]],
      ["(rm x; ls)", ["rm x", "ls"]],
      ["{ rm x\nls\n}", ["rm x", "ls"]],
      ["! time rm x", ["rm x"]],
      ["A=1 ls", ["A=1 ls"]],
      ["make a \\\n b", ["make a \\\n b"]],
      ["cd x", ["cd x"]],
      ["cd x > y; ls", ["cd x > y", "ls"]],
      ["", [""]]
    ] as const
  ) {
    it(`of ${JSON.stringify(line)} are ${JSON.stringify(commands)}`, () => {
      assert.deepStrictEqual(commandsOf(line), commands)
    })
  }

  for (
    const line of [
      "echo $(rm x)",
      "echo \"$(ls; rm x)\"",
      "echo `rm x`",
      "diff <(rm x) y",
      "echo ${A:-$(rm x)}",
      "cat <<'EOF'\nit's\nEOF\nrm x # it's",
      "ls # it's\nrm x # it's",
      "echo $'it\\'s'; rm x; echo 'y'",
      "echo 'it''s\"'; rm x; echo \"'\"",
      "echo \"; rm x",
      "echo \\>&rm x",
      "case a in a) rm x;; esac",
      "cd $(rm x)"
    ]
  ) {
    it(`are cut out wherever they may begin: ${JSON.stringify(line)}`, () => {
      assert.isTrue(commandsOf(line).some((command) => command.startsWith("rm x")))
      const ask = { permission: "shell", patterns: commandsOf(line) }
      const onlyRm = [
        { permission: "shell", pattern: "*", action: "allow" },
        { permission: "shell", pattern: "rm *", action: "deny" }
      ] as const
      assert.strictEqual(decide(onlyRm, ask).action, "deny")
    })
  }
})
