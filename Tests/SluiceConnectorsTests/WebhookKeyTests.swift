import SluiceConnectors
import SluiceCore
import Testing

/// What tells the deliveries of a webhook-only trigger apart.
@Suite struct WebhookKeyTests {
    private static func id(_ scheme: String, _ source: DeliveryIDSource?, _ body: String) -> String {
        WebhookKeys.signed("d1", of: WebhookDescription(scheme: scheme, deliveryID: source), body: Array(body.utf8))
    }

    /// Whoever holds one signed body could otherwise send it under the id of a delivery to come, and have that one dropped.
    @Test func P2_anIDThatIsNotSignedTellsNoBodiesApart() {
        let header = DeliveryIDSource.header("X-GitHub-Delivery")
        #expect(Self.id("github", header, "one") != Self.id("github", header, "two"))
        #expect(Self.id("github", header, "one") == Self.id("github", header, "one"), "the same again is the same delivery")
        #expect(Self.id("github", header, "one").hasPrefix("d1:"))
    }

    @Test func aSignedIDCountsAloneAlsoWhereItsBodyTellsTheAttempt() {
        #expect(Self.id("standard-webhooks", .header("Webhook-Id"), "one") == "d1")
        #expect(Self.id("svix", .header("svix-id"), "two") == "d1")
        #expect(Self.id("stripe", .body(["id"]), "one") == "d1")
        #expect(WebhookKeys.signed("d1", of: nil, body: []) == "d1")
    }
}
