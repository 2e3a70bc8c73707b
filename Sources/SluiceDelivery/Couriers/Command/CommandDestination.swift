import SluiceCore

/// A program of this machine that jobs are given to: started for each job, or for each batch, without a shell.
public struct CommandDestination: CourierPlan {
    public var name: String
    /// An absolute path.
    public var program: String
    public var arguments: [String]
    /// Variables beyond `PATH`, `HOME` and those that begin with `SLUICE_`, by name. Values may be secret.
    public var environment: [String: String]
    /// 1: a program for each job, which gets that job; more: one for up to so many, which gets a line for each.
    public var jobsMax: Int
    public var isBatched: Bool
    /// How long it may run. Then its process group gets SIGTERM, and after a grace SIGKILL.
    public var limitSeconds: Int
    /// Exit codes that say: trying this job again can change nothing.
    public var refuseCodes: Set<Int>

    public static let limitSecondsDefault = 60
    /// So that no call takes longer than ten minutes, also where a batch is refused and its jobs are tried alone.
    public static func limitSecondsMax(isBatched: Bool) -> Int { isBatched ? 180 : 500 }
    public static let batchDefault = 100
    public static let batchLimit = 1000
    public static let callsAtOnceDefault = 4
    /// EX_DATAERR of sysexits.h: the input is wrong, not the world.
    public static let refuseCodesDefault: Set<Int> = [65]
    /// Between SIGTERM and SIGKILL.
    public static let graceSeconds = 5
    public static let argumentsMax = 64
    public static let environmentMax = 64
    /// Of the arguments and the environment together: a system takes about 2 MB.
    public static let bytesMax = 128 * 1024

    public init(
        name: String, program: String, arguments: [String] = [], environment: [String: String] = [:], isBatched: Bool = false,
        batchMax: Int = batchDefault, limitSeconds: Int = limitSecondsDefault, refuseCodes: Set<Int> = refuseCodesDefault
    ) {
        self.name = name
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.isBatched = isBatched
        jobsMax = isBatched ? batchMax : 1
        self.limitSeconds = limitSeconds
        self.refuseCodes = refuseCodes
    }

    public var target: String { program }
    public var timeoutSeconds: Int { (isBatched ? 3 : 1) * limitSeconds + 2 * CommandDestination.graceSeconds }
    public func makeCourier(_ tools: CourierTools) -> any Courier {
        CommandCourier(self, outputBytesKept: tools.options.responseBytesKept)
    }

    /// Throws `.invalid` naming what to mend.
    public func validate() throws(SluiceError) {
        func refuse(_ message: String) -> SluiceError { SluiceError(.invalid, message) }
        guard program.hasPrefix("/"), !program.utf8.contains(0) else {
            throw refuse("the program of a command needs an absolute path, or a name in the directory of `--commands-from`")
        }
        let limits = 1...CommandDestination.limitSecondsMax(isBatched: isBatched)
        guard limits.contains(limitSeconds) else {
            throw refuse("`timeout` of a command is from 1s to \(limits.upperBound)s, not \(limitSeconds)s")
        }
        guard (1...CommandDestination.batchLimit).contains(jobsMax) else {
            throw refuse("`batch_max` of a command is from 1 to \(CommandDestination.batchLimit), not \(jobsMax)")
        }
        guard refuseCodes.allSatisfy({ (1...255).contains($0) }), refuseCodes.count <= 32 else {
            throw refuse("`refuse_codes` are at most 32 exit codes from 1 to 255; 0 means delivered")
        }
        guard arguments.count <= CommandDestination.argumentsMax, environment.count <= CommandDestination.environmentMax else {
            throw refuse(
                "a command has at most \(CommandDestination.argumentsMax) arguments and \(CommandDestination.environmentMax) variables")
        }
        for name in environment.keys.sorted() {
            guard CommandDestination.isVariable(name) else {
                throw refuse("`env`: `\(name)` is no name of a variable: letters, digits and `_`, not a digit first")
            }
            guard !CommandDestination.choosesCode(name) else {
                throw refuse(
                    "`env`: `\(name)` can make a program run other code than its own, and which programs run is for whoever starts the "
                        + "server to say (`--commands-from`): set it in the program itself")
            }
            guard !name.hasPrefix("SLUICE_") else { throw refuse("`env`: names that begin with SLUICE_ are set by Sluice, not `\(name)`") }
        }
        let texts = arguments + environment.keys + environment.values
        guard !texts.contains(where: { $0.utf8.contains(0) }) else {
            throw refuse("an argument or a variable of a command holds a zero byte")
        }
        guard texts.reduce(0, { $0 + $1.utf8.count }) <= CommandDestination.bytesMax else {
            throw refuse("the arguments and variables of a command take more than \(CommandDestination.bytesMax / 1024) KiB together")
        }
    }

    /// Variables by which a loader, a shell or an interpreter is told what else to run, or where to look for it.
    static func choosesCode(_ name: String) -> Bool {
        let upper = name.uppercased()
        let names: Set<String> = [
            "PATH", "ENV", "IFS", "PS4", "SHELLOPTS", "BASHOPTS", "BASH_ENV", "CDPATH", "PROMPT_COMMAND", "ZDOTDIR", "FPATH", "EDITOR",
            "VISUAL",
            "PAGER", "BROWSER", "SHELL", "HOME", "GCONV_PATH", "LOCPATH", "NLSPATH", "HOSTALIASES", "RES_OPTIONS", "MALLOC_CONF",
            "PERLLIB", "RUBYOPT", "RUBYLIB", "CLASSPATH", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "PHPRC",
            "PHP_INI_SCAN_DIR", "GEM_PATH", "GEM_HOME", "BUNDLE_GEMFILE", "OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES", "AWKPATH",
            "TCLLIBPATH", "R_PROFILE", "R_LIBS",
        ]
        let prefixes = [
            "LD_", "DYLD_", "BASH_FUNC_", "GLIBC_TUNABLES", "PYTHON", "PERL5", "NODE_", "LUA_", "GIT_", "DOTNET_", "COMPLUS_", "CORECLR_",
        ]
        return names.contains(upper) || prefixes.contains { upper.hasPrefix($0) }
    }

    static func isVariable(_ name: String) -> Bool {
        guard let first = name.utf8.first, !(0x30...0x39).contains(first), name.utf8.count <= 128 else { return false }
        return name.utf8.allSatisfy { ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || (0x30...0x39).contains($0) || $0 == 0x5F }
    }
}
