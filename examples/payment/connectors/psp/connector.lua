-- The payment service of this example (psp.py). A payment is pending until somebody has paid, or has not.
return {
  name = "psp",
  title = "Example payments",
  version = "1.0.0",

  connection = {
    base_url = "{connection.url}",
    fields = {
      { name = "url", hint = "http://127.0.0.1:9100" },
      { name = "api_key", secret = true },
    },
    authorization = { bearer = "{connection.api_key}" },
  },

  -- Its calls are signed. One that is not gets 401, and settles nothing either way: `status` below does.
  webhook = { scheme = "standard-webhooks" },

  callbacks = {
    payment = {
      title = "Payment",
      input_fields = { { name = "order", hint = "the number that the payment was made with" } },
      -- How a payment stands is asked for, a call or not: at first after one second, later every ten.
      pauses = { 1, 2, 5, 10 },
      status = {
        path = "/payments/{input.order}",
        settled = { path = "status", is = { "paid" } },
        failed = { path = "status", is = { "declined" } },
        retry_after = "retry_in",
      },
    },
  },
}
